"""Times inference of resnet18 in our ONNX forms, in PyTorch and in what others make of it, and peak memory, in one run.

    UV_PROJECT_ENVIRONMENT=.venv-bench uv sync --group bench
    .venv-bench/bin/python -m benchmarks.onnx

prints Markdown, with `--json` everything measured. What lacks a library is left out and named. Start it with `-m`: as
a file it would stand where Python looks for the package `onnx`.

All contenders take turns in every round; times are the shortest of all rounds, which is the steadiest number on a
machine that others use too: the processor's with one thread, with several what a user waits. Memory is the largest
resident set during an inference less that before the contender was made, weights included, in a process of its own,
on one thread. Networks are in the exact format, so every contender must give the same logits, bit for bit, which is
checked. `--cuda` measures what onnx_cuda.py has instead.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import platform
import re
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks import onnx_cuda
from benchmarks.arguments import positive
from benchmarks.machine import cores, cpu_flags, cpu_name, load
from benchmarks.measure import alone
from benchmarks.onnx_contenders import CONTENDERS
from benchmarks.onnx_measure import peak_bytes, profile_alone, times
from benchmarks.onnx_networks import NETWORKS, SHAPE, STEPS, Case, resnet
from benchmarks.onnx_report import Report, Section, markdown
from snndeploy.export.onnx import Arithmetic
from snndeploy.ir import save

_ROUNDS = {1: 20, 16: 5}
_PACKAGES = ("torch", "onnx", "onnxruntime-gpu", "onnxruntime", "onnxscript", "spikingjelly")
_PROFILED: tuple[Arithmetic, ...] = ("float32", "integer")


def measure(options: argparse.Namespace, folder: Path) -> Report:
    """Runs everything that was asked for.

    Args:
        options: The command line.
        folder: For network files.
    """
    device = onnx_cuda.device_name() if options.cuda else cpu_name()
    contenders = onnx_cuda.CONTENDERS if options.cuda else CONTENDERS
    wanted = [contender for contender in contenders if re.search(options.only, contender.name)]
    left_out = {contender.name: contender.missing for contender in wanted if contender.missing}
    names = [contender.name for contender in wanted if not contender.missing]
    sections: list[Section] = []
    for index, network in enumerate(options.networks):
        path = folder / f"{index}.safetensors"
        save(alone(resnet, network), path)
        for batch in options.batches:
            case = Case(path, batch, 1)
            found = _sections(options, network, case, names)
            if options.memory and not options.cuda:
                print(f"memory of {network}, batch {batch}", file=sys.stderr)
                held = [name for name in names if not name.startswith("floor")]
                peaks = {name: alone(peak_bytes, case, name) for name in held}
                found = [replace(section, peaks=peaks) for section in found]
            sections += found
    return Report(about(device, exact=not options.cuda), left_out, sections)


def _sections(options: argparse.Namespace, network: str, case: Case, names: Sequence[str]) -> list[Section]:
    """One for each number of threads."""
    found = []
    for threads in options.threads:
        print(f"timing {network}, batch {case.batch}, {threads} threads", file=sys.stderr)
        threaded = replace(case, threads=threads)
        rounds = options.rounds or _ROUNDS.get(case.batch, 10)
        taken, apart = alone(onnx_cuda.times if options.cuda else times, threaded, names, rounds)
        profiled = _PROFILED if case.batch == 1 and options.profile and not options.cuda else ()
        profiles = {
            str(arithmetic): alone(profile_alone, threaded, arithmetic, rounds) for arithmetic in profiled
        }
        wall = threads > 1 or options.cuda
        found.append(Section(network, case.batch, threads, wall, taken, apart, profiles=profiles))
    return found


def about(device: str, *, exact: bool) -> dict[str, Any]:
    """Where and with what it was measured.

    Args:
        device: What computed.
        exact: Whether the logits of all contenders were found to be the same.
    """
    versions = {"Python": platform.python_version()}
    for package in _PACKAGES:
        with suppress(PackageNotFoundError):
            versions[package] = version(package)
    return {
        "date": dt.datetime.now(dt.timezone.utc).date().isoformat(),
        "device": device,
        "flags": cpu_flags(),
        "cores": cores(),
        "load": load(),
        "versions": versions,
        "shape": "x".join(map(str, SHAPE)),
        "steps": STEPS,
        "exact": exact,
    }


def parsed(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.onnx", description=__doc__.splitlines()[0] if __doc__ else None
    )
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--batches", nargs="+", type=positive, help="1 and 16, with --cuda also 256")
    parser.add_argument("--threads", nargs="+", type=positive, help="1 and all cores, with --cuda only 1")
    parser.add_argument("--rounds", type=positive, help="by default 20 of batch 1, 5 of batch 16")
    parser.add_argument(
        "--only", default="", help="a regular expression that names of contenders must contain"
    )
    parser.add_argument("--no-memory", dest="memory", action="store_false")
    parser.add_argument("--no-profile", dest="profile", action="store_false")
    parser.add_argument("--cuda", action="store_true", help="on a GPU")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--out", type=Path, help="write there instead of printing")
    options = parser.parse_args(arguments)
    options.batches = options.batches or [1, 16, *([256] if options.cuda else [])]
    options.threads = options.threads or ([1] if options.cuda else sorted({1, cores()}))
    return options


def main() -> None:
    """Measures and prints the report."""
    options = parsed()
    with TemporaryDirectory() as folder:
        report = measure(options, Path(folder))
    text = json.dumps(asdict(report), indent=1) + "\n" if options.json else markdown(report)
    if options.out is None:
        sys.stdout.write(text)
    else:
        options.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
