"""ONNX Runtime sessions: on the providers asked for, or an error that names what is missing."""

from __future__ import annotations

import contextlib
import ctypes
import io
import re
from pathlib import Path
from typing import Any

import onnxruntime

from snndeploy.errors import FileFormatError, TargetError
from snndeploy.targets.onnx_runtime.files import Model

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"
_FOLDER_OPTION = "session.model_external_initializers_file_folder_path"
_SOURCE_PLACE = re.compile(r"^/.*[)\]] (?=[A-Z])")
_MISSING = re.compile(r"^(\S+\.(?:so|dylib|dll)[.\d]*): cannot open shared object file")
_MOST_THREADS = 1024
_FATAL = 4  # log severity: what goes wrong becomes an error of ours, and nothing is printed
_WARNING = 2  # ONNX Runtime's default


def available_providers() -> tuple[str, ...]:
    """Execution providers this ONNX Runtime was built with; the libraries some need may still be missing."""
    return tuple(onnxruntime.get_available_providers())


def open_session(model: Model, providers: tuple[str, ...], threads: int, *, cuda_graph: bool = False) -> Any:
    """An inference session that has every provider asked for.

    Args:
        model: Already examined.
        providers: All must take part, the preferred one first.
        threads: Threads within an operator.
        cuda_graph: Whether runs are captured as CUDA graphs.

    Raises:
        FileFormatError: ONNX Runtime cannot load the model.
        TargetError: A provider is not there; nothing falls back to another one.
    """
    if isinstance(threads, bool) or not isinstance(threads, int) or not 1 <= threads <= _MOST_THREADS:
        raise TargetError("threads", f"must be a whole number in [1, {_MOST_THREADS}]", got=repr(threads))
    absent = [p for p in providers if p not in available_providers()]
    if absent or not providers:
        raise TargetError(
            f"ONNX Runtime provider {', '.join(absent) or '(none)'}",
            "is not in this installation",
            remedy=f"choose from {', '.join(available_providers())}",
        )
    try:
        session = _open(model, providers, threads, cuda_graph)
    except Exception as error:  # ONNX Runtime's errors have no base class of their own
        if providers != (CPU,) and _loads(model, threads):
            raise _not_started(providers, one_line(error)) from None
        raise FileFormatError(model.where, "cannot be loaded by ONNX Runtime", got=one_line(error)) from None
    lost = tuple(p for p in providers if p not in session.get_providers())
    if lost:
        raise _not_started(lost, f"only {', '.join(session.get_providers())}")
    return session


def _open(model: Model, providers: tuple[str, ...], threads: int, cuda_graph: bool) -> Any:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _FATAL
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    if model.folder is not None:
        options.add_session_config_entry(_FOLDER_OPTION, str(model.folder))
    configured = [(p, _options(p, cuda_graph)) for p in providers]
    if providers == (CPU,):
        return onnxruntime.InferenceSession(model.data, options, providers=configured, enable_fallback=0)
    # Providers that cannot start log through the library's default logger and print what they miss.
    onnxruntime.set_default_logger_severity(_FATAL)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            onnxruntime.preload_dlls()  # CUDA and cuDNN from their Python packages, where PyTorch has them
        return onnxruntime.InferenceSession(model.data, options, providers=configured, enable_fallback=0)
    finally:
        onnxruntime.set_default_logger_severity(_WARNING)


def _options(provider: str, cuda_graph: bool) -> dict[str, str]:
    if provider != CUDA:
        return {}
    # TF32, which CUDA would use by default, has 10 bits of mantissa where the contract says float32.
    return {"use_tf32": "0", **({"enable_cuda_graph": "1"} if cuda_graph else {})}


def _loads(model: Model, threads: int) -> bool:
    """Whether the model itself is good, so that a failure is the provider's."""
    try:
        _open(model, (CPU,), threads, cuda_graph=False)
    except Exception:  # as above
        return False
    return True


def _not_started(providers: tuple[str, ...], got: str) -> TargetError:
    missing = next(filter(None, map(missing_library, providers)), "")
    return TargetError(
        f"ONNX Runtime provider {', '.join(providers)}",
        f"could not be started, as {missing} is missing" if missing else "could not be started",
        got=got,
        remedy="install the device's driver and the libraries this ONNX Runtime was built for "
        f"(for CUDA: pip install 'onnxruntime-gpu[cuda,cudnn]'), or ask for {CPU}",
    )


def missing_library(provider: str) -> str:
    """The first shared library that a provider of this installation lacks, by name; empty if none.

    ONNX Runtime only logs it, so the provider's own library is loaded once more.
    """
    folder = Path(onnxruntime.__file__).parent / "capi"
    library = folder / f"libonnxruntime_providers_{provider.removesuffix('ExecutionProvider').lower()}.so"
    if not library.exists():
        return ""
    try:
        ctypes.CDLL(str(folder / "libonnxruntime_providers_shared.so"), mode=ctypes.RTLD_GLOBAL)
        ctypes.CDLL(str(library))
    except OSError as error:
        found = _MISSING.match(str(error))
        return found.group(1) if found else ""
    return ""


def one_line(error: Exception) -> str:
    """What a message says, without the place in ONNX Runtime's source before it and details after it."""
    text = (str(error).strip() or type(error).__name__).split("\n", 1)[0]
    return _SOURCE_PLACE.sub("", text).split(" ; ", 1)[0][:300]
