"""The wheel holds only snndeploy, packages import only downwards, examples in docstrings hold."""

from __future__ import annotations

import ast
import doctest
import importlib
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent
SETUP = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
FOLDERS = {"snndeploy": "snndeploy", **SETUP["package-dir"]}
CHILD = "snndeploy.targets.lava.child"  # started by file path in a Python with Lava; never imported here
STANDARD = set(sys.stdlib_module_names) | {
    "__future__",
    "tomllib",
    "typing_extensions",
}  # tomllib: from 3.11 on
OURS = {  # package -> the packages of ours it may import besides itself and snndeploy.errors
    "snndeploy.errors": set[str](),
    "snndeploy.inputs": set[str](),
    "snndeploy.ir": {"snndeploy.inputs"},
    "snndeploy.nn": {"snndeploy.ir"},
    "snndeploy.backbones": {"snndeploy.ir"},
    "snndeploy.train": {"snndeploy.ir", "snndeploy.nn", "snndeploy.backbones"},
    "snndeploy.export": {"snndeploy.ir"},
    "snndeploy.targets": {"snndeploy.ir"},
    "snndeploy.targets.native": {"snndeploy.ir", "snndeploy.targets.lava"},
    "snndeploy.targets.onnx_runtime": {"snndeploy.inputs"},
    "snndeploy.figures": {"snndeploy.ir"},
}
THIRD_PARTY = {  # package -> what else it may import
    "snndeploy.errors": set[str](),
    "snndeploy.inputs": {"numpy"},
    "snndeploy.ir": {"numpy", "safetensors"},
    "snndeploy.nn": {"numpy", "torch"},
    "snndeploy.backbones": set[str](),
    "snndeploy.train": {
        "numpy",
        "torch",
        "torchvision",
        "sklearn",
        "scipy",
        "safetensors",
        "tomli",
        "tomli_w",
        "PIL",
        "tonic",
        "tensorboard",
    },
    "snndeploy.export": {"numpy", "onnx", "onnx_ir"},
    "snndeploy.targets": {"numpy", "scipy", "tomli"},
    "snndeploy.targets.measure": {"numpy", "pynvml"},
    "snndeploy.targets.native": {"numpy", "torch"},
    "snndeploy.targets.onnx_runtime": {"numpy", "onnxruntime"},
    CHILD: {"numpy", "lava"},
    "snndeploy.figures": {"matplotlib"},
    "snndeploy.cli": {"click", "numpy", "torch", "rich", "onnxruntime", "tomli_w"},
}


def modules() -> Iterator[tuple[str, Path]]:
    """Yields each module's import name and its file."""
    folders = sorted(FOLDERS.items(), key=lambda item: -len(item[0]))
    for package, folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT / folder).with_suffix("").parts
            yield ".".join([package, *(p for p in parts if p != "__init__")]), path


MODULES = dict(modules())


def imported(path: Path) -> Iterator[str]:
    """Yields the name of every module a file imports, inside functions too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            base = node.module or ""
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names if base == "snndeploy")
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def within(name: str, package: str) -> bool:
    """Whether a module is a package or lies in it."""
    return f"{name}.".startswith(f"{package}.")


def test_every_package_is_listed() -> None:
    """A folder missing from pyproject.toml would be missing from the wheel only."""
    found = {name for name, path in MODULES.items() if path.name == "__init__.py"}
    assert found == set(SETUP["packages"])


def test_wheel_holds_only_snndeploy(tmp_path: Path) -> None:
    """The wheel has no top-level train, export, targets or tests, and has every module and profile."""
    program = (
        "import sys; from setuptools.build_meta import build_wheel; sys.stdout = sys.stderr; "
        "build_wheel(sys.argv[1])"
    )
    source = tmp_path / "source"
    copied = ["snndeploy", "train", "export", "targets", "pyproject.toml", "README.md", "LICENSE"]
    source.mkdir()
    for name in copied:
        subprocess.run(["cp", "-r", str(ROOT / name), str(source)], check=True)
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program, str(tmp_path)],
        cwd=source,
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {n.split("/")[0].split("-")[0] for n in names} == {"snndeploy"}
    expected = {
        f"{name.replace('.', '/')}.py" for name, path in MODULES.items() if path.name != "__init__.py"
    }
    expected |= {
        f"{name.replace('.', '/')}/__init__.py" for name, p in MODULES.items() if p.name == "__init__.py"
    }
    assert expected <= set(names)
    assert "snndeploy/py.typed" in names
    assert "snndeploy/targets/profiles/paper-45nm.toml" in names
    assert "snndeploy/targets/chips/loihi1.toml" in names


@pytest.mark.parametrize("name", [n for n in MODULES if not within(n, CHILD) and n != "snndeploy.__main__"])
def test_doctests(name: str) -> None:
    """Docstring examples hold."""
    assert doctest.testmod(importlib.import_module(name)).failed == 0


@pytest.mark.parametrize("name", MODULES)
def test_imports_point_downwards(name: str) -> None:
    """Each package imports only what its place in the architecture allows."""
    package = max((p for p in THIRD_PARTY if within(name, p)), key=len, default=None)
    if package is None:
        assert name in ("snndeploy", "snndeploy.__main__")
        return
    for target in imported(MODULES[name]):
        root = target.split(".")[0]
        if root == "snndeploy" and package != "snndeploy.cli":
            allowed = {package, "snndeploy.errors", *OURS.get(package, set())}
            one_of_ours = any(within(target, p) for p in allowed)
            version = target in ("snndeploy", "snndeploy.__version__")
            assert version or one_of_ours, f"{name} imports {target}"
        elif root != "snndeploy" and root not in STANDARD:
            sibling = package == CHILD and any(root in n.removeprefix(CHILD).split(".") for n in MODULES)
            assert sibling or root in THIRD_PARTY[package], f"{name} imports {target}"


def test_no_import_cycles() -> None:
    """No module needs, at import time, a module that needs it."""
    graph: dict[str, set[str]] = {}
    for name, path in MODULES.items():
        top = [n for n in ast.parse(path.read_text()).body if isinstance(n, (ast.Import, ast.ImportFrom))]
        targets = {n.module or "" for n in top if isinstance(n, ast.ImportFrom)}
        graph[name] = {t for t in targets if t in MODULES and t != name}
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, f"import cycle {' -> '.join((*path, name))}"
        if name not in done:
            for target in graph[name]:
                visit(target, (*path, name))
            done.add(name)

    for name in graph:
        visit(name, ())


@pytest.mark.parametrize(
    "command",
    [
        [],
        ["train"],
        ["tradeoff"],
        ["export", "onnx"],
        ["verify"],
        ["inspect"],
        ["resources"],
        ["targets"],
        ["doctor"],
    ],
)
def test_help_is_light(command: list[str]) -> None:
    """`--help` imports neither torch nor onnx nor sklearn, so that it answers at once."""
    program = (
        "import sys; from click.testing import CliRunner; from snndeploy.cli import main; "
        f"result = CliRunner().invoke(main, {[*command, '--help']!r}); assert result.exit_code == 0, result.output; "
        "heavy = {'torch', 'onnx', 'onnx_ir', 'onnxruntime', 'sklearn', 'lava', 'numpy', 'matplotlib'}; "
        "heavy &= set(sys.modules); "
        "print(','.join(sorted(heavy)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONWARNINGS": "error"},
    )
    assert result.stdout.strip() == ""
