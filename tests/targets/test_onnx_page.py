"""docs/onnx.md: the script and the examples run, and the table of metadata is complete."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from snndeploy.export.onnx import export, lower
from snndeploy.ir import run
from tests.export.networks import back_over_many, case

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE = (DOCS / "onnx.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("readout", [1, 3])
def test_script(tmp_path: Path, readout: int) -> None:
    """Fifteen lines without snndeploy print the interpreter's logits."""
    tested = case(back_over_many(), steps=3, readout=readout)
    export(tested.network, tmp_path / "step.onnx", "step")
    np.save(tmp_path / "x.npy", tested.x)
    script = DOCS / "run_onnx.py"
    printed = subprocess.run(
        [sys.executable, "-I", str(script), str(tmp_path / "step.onnx"), str(tmp_path / "x.npy")],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    found = np.array([line.split() for line in printed.splitlines()], np.float32)
    np.testing.assert_array_equal(found, run(tested.network, tested.x).logits)
    code = script.read_text(encoding="utf-8")
    assert len([line for line in code.split('"""')[2].splitlines() if line]) == 15
    assert "snndeploy" not in re.sub(r'"snndeploy\.\w+"', "", code)


def test_examples(tmp_path: Path) -> None:
    """The blocks of Python on the page run one after the other."""
    tested = case(back_over_many(), steps=5, kind="frames")
    export(tested.network, tmp_path / "step.onnx", "step")
    export(tested.network, tmp_path / "scan.onnx", "scan")
    np.save(tmp_path / "raw.npy", tested.x)
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert len(blocks) == 3
    printed = subprocess.run(
        [sys.executable, "-W", "error", "-c", "\n".join(blocks)],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    ).stdout
    assert printed == f"{run(tested.network, tested.x).logits.argmax(1)} 5\n"


def test_metadata_table() -> None:
    """Every key that an export writes is on the page, with its fields, and no other."""
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", PAGE.split("## What the file says")[1], re.MULTILINE))
    model = lower(case(back_over_many(), steps=3).network, "step", fingerprint="0" * 64)
    metadata = {p.key.removeprefix("snndeploy."): p.value for p in model.metadata_props}
    assert set(rows) == set(metadata)
    assert rows["format_version"].endswith(f"`{metadata['format_version']}`")
    for key in ("states", "neurons", "backward", "input"):
        fields = re.findall(r'"(\w+)":', metadata[key])
        listed = re.findall(r"`(\w+)`", rows[key].split("{")[1])
        assert set(fields) <= set(listed), key
