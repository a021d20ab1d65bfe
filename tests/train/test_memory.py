"""A process that trains keeps the memory it frees."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

_FAULTS = """
import resource, sys
import torch
from snndeploy.train.memory import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
def faults(): return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
weight = torch.ones(2**24, requires_grad=True)
def batch():
    weight.grad = None
    (weight * 2).relu().square().sum().backward()
batch()
before = faults()
for _ in range(3):
    batch()
print(faults() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has mallopt")
def test_large_tensors_are_not_fetched_anew() -> None:
    """Tensors of 64 MiB take the pages of those of the batch before."""
    found = {}
    for mode in ("give back", "keep"):
        done = subprocess.run(
            [sys.executable, "-c", _FAULTS, mode], capture_output=True, text=True, check=True, timeout=120
        )
        found[mode] = int(done.stdout)
    assert found["keep"] < found["give back"] / 2
