"""Writes a folder with an exported ONNX file and the modules that run it, to ship without snndeploy."""

from __future__ import annotations

import os
import shutil
from importlib.util import find_spec
from pathlib import Path
from tempfile import mkdtemp

from snndeploy.errors import ConfigError, FileFormatError

_PACKAGE = "snndeploy.targets.onnx_runtime"
_SHARED = ("snndeploy", "snndeploy.errors", "snndeploy.inputs", "snndeploy.targets")
_PROGRAM = '''"""Runs the network of this folder: python run.py samples.npy; --help names the options."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from {package}.__main__ import main

if __name__ == "__main__":
    sys.exit(main([str(Path(__file__).resolve().parent / {model!r}), *sys.argv[1:]]))
'''
_README = """# {model}

A spiking neural network as a stateful ONNX file ({form} form, {arithmetic}), and what runs it. Needs Python 3.10
or newer with `numpy` and `onnxruntime` (or `onnxruntime-gpu`), nothing else.

    python run.py samples.npy

`samples.npy` holds raw samples, {axes}; `run.py --help` names the options. In a program of your own,
with this folder on Python's path:

    import numpy as np
    from snndeploy.targets.onnx_runtime import OnnxNetwork

    network = OnnxNetwork({model!r})
    print(network.run(network.prepare(np.load("samples.npy"){turned})).logits)
"""


_OWN = ("run.py", "README.md", "snndeploy")


def require_place(model: Path, folder: Path) -> None:
    """Refuses what `write_runner` would, before a model is written.

    Raises:
        ConfigError: The folder is there and not empty, or a link; it would hold the model that it copies; or
            the model has the name of something else in it.
        FileFormatError: There is no folder to make it in.
    """
    taken = folder.exists() and not (folder.is_dir() and not any(folder.iterdir()))
    if taken or folder.is_symlink():
        raise ConfigError(f"--with-runner {folder}", "must be a new or empty folder", remedy="choose another")
    own = Path(os.path.realpath(folder))  # never raises, where `resolve` does for links in a circle
    written = Path(os.path.realpath(model.parent), model.name)
    if own in (written, *written.parents):
        raise ConfigError(
            f"--with-runner {folder}", "must not hold the model itself", remedy="choose another"
        )
    parent = folder.absolute().parent
    if not (parent.is_dir() and os.access(parent, os.W_OK)):
        remedy = "choose a place in a folder that exists and is writable"
        raise FileFormatError(str(folder), "cannot be written", remedy=remedy)
    if model.name in _OWN:
        raise ConfigError(
            f"--with-runner {folder}", f"has its own {model.name}", remedy="give the model another name"
        )


def write_runner(model: Path, folder: Path) -> None:
    """Writes a folder with a model, the modules that run it, `run.py` and `README.md`, whole or not at all.

    Args:
        model: An exported file; its external data come along.
        folder: Must not exist, or be empty.

    Raises:
        ConfigError: As `require_place`.
        FileFormatError: The model cannot be run, or the folder cannot be written.
    """
    require_place(model, folder)
    texts, copies = _texts(model), _copies(model)
    try:
        temporary = Path(mkdtemp(prefix=f".{folder.name[:100]}.", dir=folder.absolute().parent))
        try:
            for name, source in copies.items():
                (temporary / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, temporary / name)
            for name, text in texts.items():
                (temporary / name).write_text(text, encoding="utf-8")
            temporary.chmod(0o755)  # mkdtemp makes it private
            temporary.replace(folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    except OSError as error:
        raise FileFormatError(str(folder), "cannot be written", got=error.strerror) from None


def _texts(model: Path) -> dict[str, str]:
    from snndeploy.targets.onnx_runtime import OnnxNetwork

    network = OnnxNetwork(model)
    sizes = tuple(s // network.description.input.repeat for s in network.shape[1:])
    image = network.description.input.kind == "image"
    front = ("samples",) if image else ("samples", "time")
    return {
        "run.py": _PROGRAM.format(package=_PACKAGE, model=model.name),
        "README.md": _README.format(
            model=model.name,
            form=network.description.form,
            arithmetic=network.description.arithmetic,
            axes=" x ".join(map(str, (*front, network.shape[0], *sizes))),
            turned="" if image else ".swapaxes(0, 1)",
        ),
    }


def _copies(model: Path) -> dict[str, Path]:
    """File to copy by its name in the folder."""
    from snndeploy.targets.onnx_runtime.files import read_model

    package = _source(_PACKAGE)
    modules = {name: _source(name) for name in _SHARED}
    modules |= {f"{_PACKAGE}.{path.stem}": path for path in sorted(package.parent.glob("*.py"))}
    copies: dict[str, Path] = {}
    for name, path in modules.items():
        whole = name.removesuffix(".__init__") + (".__init__" if path.name == "__init__.py" else "")
        copies[f"{whole.replace('.', '/')}.py"] = path
    beside = {external.location for external in read_model(model).contents.external}
    return copies | {name: model.parent / name for name in (model.name, *sorted(beside))}


def _source(module: str) -> Path:
    spec = find_spec(module)
    if spec is None or spec.origin is None:
        raise FileNotFoundError(module)
    return Path(spec.origin)
