"""`snndeploy export onnx --with-runner`: a folder that runs where snndeploy is not installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result

from snndeploy import ir
from snndeploy.cli.runner import write_runner
from snndeploy.export.onnx import export
from snndeploy.ir import Input, Lif, Op, Output
from tests.export.networks import TOPOLOGIES, graph, linear
from tests.export.networks import case as tuned
from tests.strategies import Case

BLOCKED = """
import sys
from importlib.abc import MetaPathFinder


class Blocked(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        kept = ("numpy", "onnxruntime", "snndeploy")
        if name.split(".")[0] not in (*kept, *sys.stdlib_module_names):
            raise ModuleNotFoundError(f"{name} is blocked")
        if name == "snndeploy" and sys.path[0] != FOLDER:
            raise ModuleNotFoundError("the installed snndeploy is blocked")


sys.meta_path.insert(0, Blocked())
import runpy

sys.argv = ARGUMENTS
try:
    runpy.run_path(ARGUMENTS[0], run_name="__main__")
finally:
    from pathlib import Path

    loaded = [m for m in sys.modules if m.split(".")[0] == "snndeploy"]
    assert loaded and all(sys.modules[m].__file__.startswith(FOLDER) for m in loaded), loaded
"""


def isolated(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """What run.py of a folder does in a Python that has NumPy, ONNX Runtime and that folder only.

    ONNX Runtime's own optional imports fail quietly.
    """
    program = f"FOLDER = {str(folder)!r}\nARGUMENTS = {[str(a) for a in (folder / 'run.py', *arguments)]!r}\n"
    return subprocess.run(
        [sys.executable, "-I", "-W", "error", "-c", program + BLOCKED],
        capture_output=True,
        text=True,
        cwd="/",
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )


@pytest.fixture(params=["step", "sequence"])
def shipped(
    request: pytest.FixtureRequest, run_json: Callable[..., Any], network: Path, tmp_path: Path
) -> Path:
    """A folder made by the command, in each form."""
    folder = tmp_path / "shipped"
    facts = run_json(
        *("export", "onnx", network, "-o", tmp_path / "a.onnx"),
        *("--form", request.param, "--with-runner", folder),
    )
    assert facts["runner"] == str(folder)
    return folder


def test_runs_alone(shipped: Path, network: Path, case: Case, tmp_path: Path) -> None:
    """The folder gives the interpreter's logits without torch, onnx, safetensors or the installed snndeploy."""
    raw, logits = tmp_path / "raw.npy", tmp_path / "logits"
    np.save(raw, case.x)
    result = isolated(shipped, raw, "--prepared", "-o", logits)
    assert (result.returncode, result.stderr) == (0, "")
    expected = ir.run(ir.load(network), case.x).logits
    np.testing.assert_array_equal(np.load(logits), expected)
    lines = [line.split("\t") for line in result.stdout.splitlines()]
    assert [(int(i), int(name)) for i, name, _ in lines] == list(enumerate(expected.argmax(1)))
    assert (shipped / "a.onnx").read_bytes() == (tmp_path / "a.onnx").read_bytes()
    text = (shipped / "README.md").read_text()
    assert "samples x 1 x 6 x 6" in text
    assert not [path for path in shipped.rglob("*") if path.name.startswith(".")]


def test_errors_of_the_shipped_program(shipped: Path, tmp_path: Path) -> None:
    """Samples that are missing, damaged or of other shape are one line and exit status 2."""
    (tmp_path / "damaged.npy").write_bytes(b"nothing")
    np.save(tmp_path / "words.npy", np.array(["a"]))
    np.save(tmp_path / "wrong.npy", np.zeros((2, 5), np.float32))
    np.save(tmp_path / "good.npy", np.zeros((2, 1, 6, 6), np.float32))
    (tmp_path / "archive.npy").write_bytes(b"PK\x03\x04 and no more")
    np.savez(tmp_path / "several.npz", np.zeros(1))
    commands: list[tuple[str, ...]] = [("good.npy", "-o", str(tmp_path / "good.npy" / "logits.npy"))]
    commands += [(f"{name}.npy",) for name in ("missing", "damaged", "words", "wrong", "archive")]
    for name, *options in [*commands, ("several.npz",)]:
        result = isolated(shipped, tmp_path / name, *options)
        assert result.returncode == 2
        assert result.stdout == ""
        assert result.stderr.startswith("error: ")
        assert result.stderr.count("\n") == 1


def test_folders_that_cannot_be_written(run: Callable[..., Result], network: Path, tmp_path: Path) -> None:
    """A place in use, one that cannot be made, or one around the model is refused before anything is written."""
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "thing").touch()
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to("empty")
    (tmp_path / "circle").symlink_to("circle")
    for name, message in (
        ("used", "must be a new or empty folder"),
        ("file", "must be a new or empty folder"),
        ("link", "must be a new or empty folder"),
        ("circle", "must be a new or empty folder"),
        ("a.onnx", "must not hold the model itself"),
        ("missing/folder", "cannot be written; choose a place in a folder that exists"),
        ("file/folder", "cannot be written; choose a place in a folder that exists"),
    ):
        result = run("export", "onnx", network, "-o", tmp_path / "a.onnx", "--with-runner", tmp_path / name)
        assert result.exit_code == 2
        assert message in result.output
    result = run(
        "export", "onnx", network, "-o", tmp_path / "empty" / "a", "--with-runner", tmp_path / "empty"
    )
    assert result.exit_code == 2
    assert "must not hold the model itself" in result.output
    assert _names(tmp_path) == ["circle", "empty", "file", "link", "network.snn.safetensors", "used"]
    assert _names(tmp_path / "empty") == []
    assert _names(tmp_path / "used") == ["thing"]


def test_frames(tmp_path: Path) -> None:
    """A file of frames has sample after sample, as for all commands, though time is the first axis elsewhere."""
    tested = tuned(TOPOLOGIES["self_loop"](), steps=4, kind="frames")
    model, folder, raw = tmp_path / "a.onnx", tmp_path / "shipped", tmp_path / "raw.npy"
    export(tested.network, model, "sequence")
    write_runner(model, folder)
    np.save(raw, tested.x.swapaxes(0, 1))
    result = isolated(folder, raw, "--prepared", "-o", tmp_path / "logits.npy")
    assert (result.returncode, result.stderr) == (0, "")
    found, expected = np.load(tmp_path / "logits.npy"), ir.run(tested.network, tested.x).logits
    np.testing.assert_array_equal(found, expected)
    text = (folder / "README.md").read_text()
    assert "samples x time x" in text
    assert '"samples.npy").swapaxes(0, 1)' in text


@pytest.mark.parametrize("name", ["run.py", "README.md", "snndeploy"])
def test_names_that_the_folder_needs(
    run: Callable[..., Result], network: Path, tmp_path: Path, name: str
) -> None:
    """A model that would take the place of the program, its page or its modules is refused."""
    result = run("export", "onnx", network, "-o", tmp_path / name, "--with-runner", tmp_path / "folder")
    assert result.exit_code == 2
    assert f"has its own {name}; give the model another name" in result.output
    assert not (tmp_path / "folder").exists()


def _names(folder: Path) -> Sequence[str]:
    return sorted(path.name for path in folder.iterdir())


def test_an_empty_folder_is_taken(run_json: Callable[..., Any], network: Path, tmp_path: Path) -> None:
    """A folder that exists and is empty is filled."""
    folder = tmp_path / "empty"
    folder.mkdir()
    run_json("export", "onnx", network, "-o", tmp_path / "a.onnx", "--with-runner", folder)
    assert _names(folder) == ["README.md", "a.onnx", "run.py", "snndeploy"]


def test_values_in_a_second_file_come_along(tmp_path: Path) -> None:
    """A model with external data is shipped with them, and needs no others."""
    wide: dict[str, Op] = {
        "input": Input(shape=(64,)),
        "f": linear(64, 64),
        "l": Lif(),
        "g": linear(64, 2),
        "output": Output(),
    }
    tested = tuned(graph(wide, "input f l g output"), steps=2)
    (tmp_path / "model").mkdir()
    export(tested.network, tmp_path / "model" / "m.onnx", "step", external_data=True)
    beside = _names(tmp_path / "model")
    assert len(beside) == 2
    write_runner(tmp_path / "model" / "m.onnx", tmp_path / "shipped")
    shutil.rmtree(tmp_path / "model")
    assert set(beside) <= set(_names(tmp_path / "shipped"))
    np.save(tmp_path / "x.npy", tested.x)
    result = isolated(tmp_path / "shipped", tmp_path / "x.npy", "-o", tmp_path / "logits.npy")
    assert (result.returncode, result.stderr) == (0, "")
    np.testing.assert_array_equal(np.load(tmp_path / "logits.npy"), ir.run(tested.network, tested.x).logits)
