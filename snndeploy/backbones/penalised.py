"""The networks on which the spiking synaptic penalty was studied. Convolutions have no bias.

Source: Spiking Synaptic Penalty, table 5.
"""

from __future__ import annotations

from snndeploy.backbones.builder import Builder
from snndeploy.ir import Flatten, Graph, Lif, Shape


def cnn7(shape: Shape, classes: int, lif: Lif | None = None) -> Graph:
    """Seven convolutions without padding, six of them spiking, and a global average pool of the last.

    As printed in table 5, which gives 35 496 neurons for 28x28x1; table 1 of the same paper counts 59 688,
    a number that no reading of table 5 leads to.

    Args:
        shape: (channels, height, width) of the input, at least 19x19.
        classes: Number of classes.
        lif: Neuron of every layer; the default has tau 0.5 and threshold 1.
    """
    builder = Builder(shape, lif or Lif())
    source = "input"
    layers = ((64, 3, 2, 0.1), (128, 6, 1, 0.2), (256, 3, 1, 0.3), (128, 1, 1, 0.2), (64, 1, 1, 0.1))
    for index, (channels, kernel, stride, dropout) in enumerate((*layers, (classes, 1, 1, 0.0)), 1):
        current = builder.conv(f"conv{index}", channels, kernel, source, stride=stride, padding=0)
        spikes = builder.lif(f"lif{index}", builder.norm(f"norm{index}", current))
        source = builder.dropout(f"dropout{index}", dropout, spikes)
    return builder.graph(builder.global_pool(builder.conv("conv7", classes, 1, source)))


def vgg11(shape: Shape, classes: int, lif: Lif | None = None) -> Graph:
    """C64-A-C128-C256-A-C512-C512-A-C512-A-C512-C512-FC4096-FC4096-FC, a LIF after each but the last.

    C is a 3x3 convolution with BatchNorm, A a 2x2 average pool of the spikes. Table 5 as printed has more
    convolutions; this reading gives the 249 856 neurons and ten spiking layers of table 1.

    Args:
        shape: (channels, height, width) of the input; each side is halved four times.
        classes: Number of classes.
        lif: Neuron of every layer; the default has tau 0.5 and threshold 1.
    """
    builder = Builder(shape, lif or Lif())
    source = "input"
    widths = (64, 128, 256, 512, 512, 512, 512, 512)
    pooled, dropped = {1, 3, 5, 6}, {1, 4, 7}
    for index, channels in enumerate(widths, 1):
        current = builder.norm(f"norm{index}", builder.conv(f"conv{index}", channels, 3, source))
        source = builder.lif(f"lif{index}", current)
        source = builder.dropout(f"dropout{index}", 0.2 if index in dropped else 0.0, source)
        source = builder.pool(f"pool{index}", 2, source) if index in pooled else source
    source = builder.add("flatten", Flatten(), source)
    for index in (9, 10):
        current = builder.norm(f"norm{index}", builder.linear(f"fc{index}", 4096, source))
        source = builder.dropout(f"dropout{index}", 0.2, builder.lif(f"lif{index}", current))
    return builder.graph(builder.linear("fc11", classes, source))


def resnet18_preact(shape: Shape, classes: int, lif: Lif | None = None) -> Graph:
    """Pre-activation ResNet-18: streams of convolutions that are normalised and fire where they are read.

    A block is BN-S-C3x3-BN-S-C3x3 beside the identity; in a strided block the shortcut is BN-S-C1x1. A
    stream carries no spikes and feeds several LIF layers.

    Args:
        shape: (channels, height, width) of the input.
        classes: Number of classes.
        lif: Neuron of every layer; the default has tau 0.5 and threshold 1.
    """
    builder = Builder(shape, lif or Lif())

    def spiking_conv(name: str, stream: list[str], channels: int, kernel: int, stride: int = 1) -> str:
        spikes = builder.lif(f"{name}.lif", builder.norm(f"{name}.norm", *stream))
        return builder.conv(f"{name}.conv", channels, kernel, spikes, stride=stride)

    stream, width = [builder.conv("stem.conv", 64, 3, "input")], 64
    for stage, channels in enumerate((64, 128, 256, 512), 1):
        for block in (1, 2):
            name, stride = f"stage{stage}.{block}", 1 if channels == width else 2
            inner = spiking_conv(f"{name}.1", stream, channels, 3, stride)
            outer = spiking_conv(f"{name}.2", [inner], channels, 3)
            if stride > 1:
                stream = [spiking_conv(f"{name}.skip", stream, channels, 1, stride)]
            stream, width = [*stream, outer], channels
    return builder.graph(builder.global_pool(spiking_conv("last", stream, classes, 1)))
