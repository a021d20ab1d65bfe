"""Spiking networks to start from: functions that return a Graph.

All end in a global average pool and a fully connected readout. A LIF follows the residual add, so that an
identity skip adds the input spikes to the current.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from snndeploy.errors import ConfigError
from snndeploy.ir import (
    AvgPool2d,
    BatchNorm,
    Conv2d,
    Edge,
    Flatten,
    Graph,
    Input,
    Lif,
    Linear,
    Op,
    Output,
    Shape,
)
from snndeploy.ir.shapes import output_shape


class _Builder:
    """Collects ops and edges; each method returns the name of the op whose output it stands for."""

    def __init__(self, shape: Shape, lif: Lif) -> None:
        self.ops: dict[str, Op] = {}
        self.edges: list[Edge] = []
        self.shapes: dict[str, Shape] = {}
        self.lif = lif
        self.add("input", Input(shape=shape))

    def add(self, name: str, op: Op, *sources: str) -> str:
        self.ops[name] = op
        self.edges += [Edge(source, name) for source in sources]
        self.shapes[name] = output_shape(name, op, self.shapes[sources[0]] if sources else ())
        return name

    def conv_norm(self, name: str, source: str, channels: int, kernel: int, stride: int) -> str:
        conv = Conv2d(
            in_channels=self.shapes[source][0],
            out_channels=channels,
            kernel=(kernel, kernel),
            stride=(stride, stride),
            padding=(kernel // 2, kernel // 2),
        )
        self.add(f"{name}.conv", conv, source)
        return self.add(f"{name}.norm", BatchNorm(channels=channels), f"{name}.conv")

    def block(self, name: str, source: str, channels: int, stride: int, *, residual: bool) -> str:
        first = self.add(f"{name}.lif1", self.lif, self.conv_norm(f"{name}.1", source, channels, 3, stride))
        inputs = [self.conv_norm(f"{name}.2", first, channels, 3, 1)]
        if residual:
            same = self.shapes[source] == self.shapes[inputs[0]]
            inputs.append(source if same else self.conv_norm(f"{name}.skip", source, channels, 1, stride))
        return self.add(f"{name}.lif2", self.lif, *inputs)

    def readout(self, source: str, classes: int, hidden: int = 0) -> Graph:
        size = self.shapes[source][1:]
        source = self.add("pool", AvgPool2d(kernel=(size[0], size[1]), stride=(size[0], size[1])), source)
        source = self.add("flatten", Flatten(), source)
        if hidden:
            features = self.shapes[source][0]
            source = self.add("hidden.fc", Linear(in_features=features, out_features=hidden), source)
            source = self.add("hidden.norm", BatchNorm(channels=hidden), source)
            source = self.add("hidden.lif", self.lif, source)
        features = self.shapes[source][0]
        source = self.add("fc", Linear(in_features=features, out_features=classes, bias=True), source)
        self.add("output", Output(), source)
        return Graph(self.ops, tuple(self.edges))


def _resnet(
    shape: Shape,
    classes: int,
    *,
    stem: int,
    widths: tuple[int, ...],
    blocks: tuple[int, ...],
    lif: Lif,
    residual: bool = True,
    hidden: int = 0,
) -> Graph:
    builder = _Builder(shape, lif)
    source = builder.add("stem.lif", lif, builder.conv_norm("stem", "input", stem, 3, 1))
    for stage, (channels, count) in enumerate(zip(widths, blocks, strict=True), 1):
        for block in range(1, count + 1):
            stride = 2 if stage > 1 and block == 1 else 1
            source = builder.block(f"stage{stage}.{block}", source, channels, stride, residual=residual)
    return builder.readout(source, classes, hidden)


def resnet18(shape: Shape, classes: int, lif: Lif | None = None) -> Graph:
    """Spiking ResNet-18 with the CIFAR stem: 64-128-256-512, two blocks each, 17 ports.

    Args:
        shape: (channels, height, width) of the input.
        classes: Number of classes.
        lif: Neuron of every layer; the default has tau 0.5 and threshold 1.

    Source: BCNAS-SNN, section 5.1.
    """
    return _resnet(shape, classes, stem=64, widths=(64, 128, 256, 512), blocks=(2, 2, 2, 2), lif=lif or Lif())


def resnet18_plain(shape: Shape, classes: int, lif: Lif | None = None) -> Graph:
    """ResNet-18 without residual connections, 17 ports; arguments as `resnet18`."""
    return _resnet(
        shape,
        classes,
        stem=64,
        widths=(64, 128, 256, 512),
        blocks=(2, 2, 2, 2),
        lif=lif or Lif(),
        residual=False,
    )


def resnet19(shape: Shape, classes: int, lif: Lif | None = None) -> Graph:
    """Spiking ResNet-19: stem 128, blocks [3, 3, 2] of 128-256-512, a spiking FC 256, 18 ports.

    Arguments as `resnet18`.

    Source: BCNAS-SNN, section 5.1.
    """
    return _resnet(
        shape, classes, stem=128, widths=(128, 256, 512), blocks=(3, 3, 2), lif=lif or Lif(), hidden=256
    )


def resnet8(shape: Shape, classes: int, lif: Lif | None = None) -> Graph:
    """A small spiking ResNet for CPUs: stem 16, one block each of 16-32-64, 7 ports.

    Arguments as `resnet18`. The layer count follows He et al. (CVPR 2016), section 4.2: 6n + 2 with n = 1.
    """
    return _resnet(shape, classes, stem=16, widths=(16, 32, 64), blocks=(1, 1, 1), lif=lif or Lif())


BACKBONES: Mapping[str, Callable[[Shape, int], Graph]] = MappingProxyType(
    {"resnet8": resnet8, "resnet18": resnet18, "resnet18_plain": resnet18_plain, "resnet19": resnet19}
)


def backbone(name: str, shape: Shape, classes: int) -> Graph:
    """The backbone of that name.

    Raises:
        ConfigError: There is none; the message lists those there are.
    """
    if name not in BACKBONES:
        raise ConfigError(
            f"backbone {name!r}", "is not known", remedy=f"choose one of {', '.join(BACKBONES)}"
        )
    return BACKBONES[name](shape, classes)
