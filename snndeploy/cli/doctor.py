"""`snndeploy doctor`: what this machine has and which back ends can run."""

from __future__ import annotations

import platform
from typing import Any

import click

from snndeploy.cli.options import json_option


@click.command(epilog="Example: snndeploy doctor --make-lava-env")
@click.option(
    "--make-lava-env",
    is_flag=True,
    help="First make a Python 3.10 environment with Lava (needs uv and a network).",
)
@json_option
def doctor(make_lava_env: bool, as_json: bool) -> None:
    """Report Python, PyTorch, CUDA, compiled neurons, ONNX Runtime's providers and the Lava interpreter."""
    from snndeploy.cli.output import emit_json, say, table

    if make_lava_env:
        from snndeploy.targets.lava import make_environment

        say("making an environment for Lava; this downloads packages")
        say(f"made {make_environment()}")
    facts = examine()
    if as_json:
        emit_json(facts)
    else:
        click.echo(table(["what", "found"], [[key.replace("_", " "), _text(v)] for key, v in facts.items()]))


def examine() -> dict[str, Any]:
    """What was found, as JSON values; a missing part is None."""
    from snndeploy import __version__

    facts: dict[str, Any] = {
        "snndeploy": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
    }
    return facts | _torch() | _onnx() | _lava()


def _torch() -> dict[str, Any]:
    try:
        import torch
    except ImportError as error:
        return {"torch": None, "torch_problem": str(error)}
    from snndeploy.nn.compiled import build
    from snndeploy.nn.whole import compiler_problem

    available = torch.cuda.is_available()
    compiled, problem = build(), compiler_problem(torch.device("cpu"))
    return {
        "torch": torch.__version__,
        "torch_threads": torch.get_num_threads(),
        "cuda_of_torch": torch.version.cuda,
        "cuda_devices": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        if available
        else [],
        "compiled_neurons": compiled.library is not None,
        **({"compiled_neurons_problem": compiled.problem} if compiled.problem else {}),
        "compiled_network": not problem,
        **({"compiled_network_problem": problem} if problem else {}),
    }


def _onnx() -> dict[str, Any]:
    facts: dict[str, Any] = {"onnx": _version("onnx"), "onnx_ir": _version("onnx-ir")}
    try:
        import onnxruntime
    except ImportError as error:
        return facts | {"onnxruntime": None, "onnxruntime_problem": str(error)}
    return facts | {
        "onnxruntime": onnxruntime.__version__,
        "onnxruntime_providers": onnxruntime.get_available_providers(),
    }


def _version(package: str) -> str | None:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _lava() -> dict[str, Any]:
    from snndeploy.errors import TargetError
    from snndeploy.targets.lava import find_interpreter

    try:
        return {"lava_interpreter": str(find_interpreter())}
    except TargetError as error:
        return {"lava_interpreter": None, "lava_problem": str(error)}


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value is None else str(value)
