"""What commands act on: network files, backbones by name, and samples to run."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from snndeploy.errors import ConfigError, NetworkError

if TYPE_CHECKING:
    import numpy.typing as npt

    from snndeploy.ir import Graph, Network

_DEFAULT_STEPS = 4
_RANDOM_SEED = 0


@dataclass(frozen=True, eq=False)
class Samples:
    """Prepared input and where it came from.

    x: (batch, *shape) for images, (time, batch, *shape) for frames.
    labels: Class of each sample, or None.
    name: What the reports call them.
    count: Number of samples.
    """

    x: npt.NDArray[Any]
    labels: npt.NDArray[Any] | None
    name: str
    count: int


def graph_of(what: str, shape: tuple[int, ...] | None, classes: int | None) -> tuple[Graph, int]:
    """The graph of a network file or of a backbone, and its time steps.

    Args:
        what: A path, or the name of a backbone.
        shape: Input of a backbone; None for (3, 32, 32).
        classes: Of a backbone; None for 10.

    Raises:
        ConfigError: It is neither, or a network file comes with a shape or classes.
        FileFormatError: The file cannot be read.
    """
    from snndeploy.backbones import BACKBONES, backbone
    from snndeploy.ir import load

    if what in BACKBONES:
        return backbone(what, shape or (3, 32, 32), classes or 10), _DEFAULT_STEPS
    if not os.path.lexists(what):
        raise ConfigError(
            repr(what),
            "is neither a network file nor a backbone",
            remedy=f"the backbones are {', '.join(BACKBONES)}",
        )
    if shape or classes:
        raise ConfigError("--input and --classes", "are for backbones; a network file has its own")
    network = load(what)
    return network.graph, network.steps


def add_backward(graph: Graph, connections: Iterable[str]) -> Graph:
    """The graph with backward connections given as J:I or J:I:DELAY.

    Raises:
        ConfigError: A text is not of that form.
        GraphError: The graph allows no such connection.
    """
    from snndeploy.ir import with_backward

    for text in connections:
        parts = text.split(":")
        if len(parts) not in (2, 3) or not all(p.isascii() and p.isdigit() for p in parts):
            raise ConfigError(f"backward connection {text!r}", "must have the form J:I or J:I:DELAY")
        graph = with_backward(graph, *(int(p) for p in parts))
    return graph


def load_folded(path: Path) -> Network:
    """Reads a network file and folds it if it still has training-only ops."""
    from snndeploy.ir import fold, load

    network = load(path)
    return fold(network) if network.graph.training_only else network


def load_samples(network: Network, data: str, count: int) -> Samples:
    """Samples for a network, by name or from a file; see the `--data` option.

    Raises:
        ConfigError: The data are unknown.
        NetworkError: They do not fit the network.
    """
    if data == "auto":
        data = "digits" if _takes_digits(network) else "random"
    if data == "digits":
        return _digits(network, count)
    if data == "random":
        return _random(network, count)
    if data.endswith(".npy"):
        return _from_file(network, Path(data), count)
    raise ConfigError(
        f"data {data!r}", "are not known", remedy="use digits, random, auto or the path of a .npy file"
    )


def _takes_digits(network: Network) -> bool:
    from snndeploy.train.data import digits

    source = digits(repeat=network.input.repeat)
    return network.input == source.input and network.graph.shapes[network.graph.input] == source.shape


def _digits(network: Network, count: int) -> Samples:
    from snndeploy.train.data import digits

    if not _takes_digits(network):
        raise NetworkError("data 'digits'", "do not fit the network's input", remedy="use --data random")
    test = digits(repeat=network.input.repeat).test.take(slice(0, count))
    return Samples(
        network.input.prepare(test.images), test.labels, "digits (test images of split 0)", len(test)
    )


def _random(network: Network, count: int) -> Samples:
    import numpy as np

    spec, shape = network.input, network.graph.shapes[network.graph.input]
    front = (network.steps, count) if spec.kind == "frames" else (count,)
    x = np.random.default_rng(_RANDOM_SEED).uniform(spec.low, spec.high, (*front, *shape))
    if spec.grid_bits is not None:
        grid = 2.0**spec.grid_bits
        x = np.clip(np.round(x * grid), np.ceil(spec.low * grid), np.floor(spec.high * grid)) / grid
    return Samples(x.astype(np.float32), None, f"random noise (seed {_RANDOM_SEED})", count)


def _from_file(network: Network, path: Path, count: int) -> Samples:
    import numpy as np

    from snndeploy.ir import as_steps

    try:
        with path.open("rb") as file:
            raw = np.load(file, allow_pickle=False)
    except Exception as error:  # of many kinds: NumPy reads headers as Python, and archives
        raise NetworkError(str(path), "cannot be read as a .npy array", got=str(error)) from None
    frames = network.input.kind == "frames"
    axes = len(network.graph.shapes[network.graph.input])
    if not isinstance(raw, np.ndarray) or raw.dtype.kind not in "buif" or raw.ndim != 1 + frames + axes:
        shape = "(samples, time, ...)" if frames else "(samples, ...)"
        raise NetworkError(str(path), f"must hold real numbers of {1 + frames + axes} axes, {shape}")
    raw = np.moveaxis(raw[:count], 1, 0) if frames else raw[:count]
    x = network.input.prepare(raw, axes=axes)
    if as_steps(network, x).shape[1] == 0:  # which also refuses a shape that does not fit
        raise NetworkError(str(path), "must hold at least one sample")
    return Samples(x, None, str(path), x.shape[1] if frames else x.shape[0])
