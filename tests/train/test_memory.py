"""A process that trains keeps the memory it frees."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

_FAULTS = """
import resource, sys
from contextlib import nullcontext
from pathlib import Path
import torch
from snndeploy.train.memory import keep_freed_memory, kept_memory
def faults(): return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def resident_mib(): return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() >> 20
weight = torch.ones(2**24, requires_grad=True)
def batch():
    weight.grad = None
    (weight * 2).relu().square().sum().backward()
before = resident_mib()
with kept_memory() if sys.argv[1] == "keep" else nullcontext():
    batch()
    start = faults()
    for _ in range(3):
        batch()
    print(faults() - start)
    weight.grad = None
print(resident_mib() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has mallopt")
def test_large_tensors_are_not_fetched_anew() -> None:
    """Tensors of 64 MiB take the pages of those of the batch before; in the end all are given back."""
    found, left = {}, {}
    for mode in ("give back", "keep"):
        done = subprocess.run(
            [sys.executable, "-c", _FAULTS, mode], capture_output=True, text=True, check=True, timeout=120
        )
        found[mode], left[mode] = map(int, done.stdout.split())
    assert found["keep"] < found["give back"] / 2
    assert left["keep"] < left["give back"] + 32
