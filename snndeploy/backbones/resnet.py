"""Spiking residual networks with the CIFAR stem, as backward connections were searched for on them.

All end in a global average pool and a fully connected readout. A LIF follows the residual add, so that an
identity skip adds the input spikes to the current.
"""

from __future__ import annotations

from snndeploy.backbones.builder import Builder
from snndeploy.ir import Graph, Lif, Shape


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
    builder = Builder(shape, lif)
    source = builder.lif("stem.lif", _conv_norm(builder, "stem", "input", stem, 3))
    for stage, (channels, count) in enumerate(zip(widths, blocks, strict=True), 1):
        for block in range(1, count + 1):
            stride = 2 if stage > 1 and block == 1 else 1
            source = _block(builder, f"stage{stage}.{block}", source, channels, stride, residual=residual)
    source = builder.global_pool(source)
    if hidden:
        current = builder.norm("hidden.norm", builder.linear("hidden.fc", hidden, source))
        source = builder.lif("hidden.lif", current)
    return builder.graph(builder.linear("fc", classes, source, bias=True))


def _conv_norm(builder: Builder, name: str, source: str, channels: int, kernel: int, stride: int = 1) -> str:
    return builder.norm(f"{name}.norm", builder.conv(f"{name}.conv", channels, kernel, source, stride=stride))


def _block(builder: Builder, name: str, source: str, channels: int, stride: int, *, residual: bool) -> str:
    first = builder.lif(f"{name}.lif1", _conv_norm(builder, f"{name}.1", source, channels, 3, stride))
    inputs = [_conv_norm(builder, f"{name}.2", first, channels, 3)]
    if residual:
        same = builder.shapes[source] == builder.shapes[inputs[0]]
        inputs.append(source if same else _conv_norm(builder, f"{name}.skip", source, channels, 1, stride))
    return builder.lif(f"{name}.lif2", *inputs)


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


def resnet6(shape: Shape, classes: int, lif: Lif | None = None) -> Graph:
    """The smallest spiking ResNet here: stem 16, one block each of 16-32, 5 ports.

    Arguments as `resnet18`. It is the network of the `recall` task, where a backward connection pays.
    """
    return _resnet(shape, classes, stem=16, widths=(16, 32), blocks=(1, 1), lif=lif or Lif())
