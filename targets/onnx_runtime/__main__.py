"""Runs an exported file on samples: python -m snndeploy.targets.onnx_runtime model.onnx samples.npy."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from snndeploy.errors import FileFormatError, SnnDeployError
from snndeploy.targets.onnx_runtime import CPU, CUDA, OnnxNetwork, Result


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints one line for each sample: its number, its class, its largest logit.

    Returns:
        The exit status: 0, or 2 after an error of the user's, which is printed.
    """
    parser = argparse.ArgumentParser(prog="run", description=(__doc__ or "").split(":")[0])
    parser.add_argument("model", help="a file of `snndeploy export onnx`")
    parser.add_argument(
        "samples", help="a .npy file of raw samples: (samples, ...), frames (samples, time, ...)"
    )
    parser.add_argument("--prepared", action="store_true", help="the samples are prepared float32 input")
    parser.add_argument("--steps", type=int, help="time steps for which images are shown")
    parser.add_argument("--threads", type=int, default=1, help="threads within an operator (1)")
    parser.add_argument("--cuda", action="store_true", help="run on a GPU")
    parser.add_argument("-o", "--output", help="write the logits to this .npy file")
    options = parser.parse_args(arguments)
    try:
        network = OnnxNetwork(options.model, (CUDA,) if options.cuda else (CPU,), options.threads)
        raw = _loaded(options.samples)
        if network.description.input.kind == "frames" and raw.ndim > 1:
            raw = np.swapaxes(raw, 0, 1)  # a file has sample after sample
        result = network.run(raw if options.prepared else network.prepare(raw), steps=options.steps)
        if options.output:
            _save(options.output, result.logits)
    except SnnDeployError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    sys.stdout.write(_lines(result, network.description.classes))
    return 0


def _lines(result: Result, classes: Sequence[str]) -> str:
    best = result.logits.argmax(axis=1)
    names = [classes[k] if k < len(classes) else str(k) for k in best]
    largest = result.logits.max(axis=1)
    return "".join(
        f"{i}\t{name}\t{value:.6g}\n" for i, (name, value) in enumerate(zip(names, largest, strict=True))
    )


def _loaded(path: str) -> npt.NDArray[np.generic]:
    try:
        with Path(path).open("rb") as file:
            found = np.load(file, allow_pickle=False)
    except Exception as error:  # of many kinds: NumPy reads headers as Python, and archives
        raise FileFormatError(path, "cannot be read as a .npy array", got=error) from None
    if not isinstance(found, np.ndarray) or found.dtype.kind not in "buif":
        raise FileFormatError(path, "must hold one array of real numbers")
    return found


def _save(path: str, array: npt.NDArray[np.generic]) -> None:
    temporary = Path(f"{path}.part")
    try:
        with temporary.open("wb") as file:  # np.save would add a suffix to a name
            np.save(file, array, allow_pickle=False)
        temporary.replace(path)
    except OSError as error:
        raise FileFormatError(path, "cannot be written", got=error.strerror) from None
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


if __name__ == "__main__":
    sys.exit(main())
