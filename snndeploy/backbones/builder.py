"""Puts a graph together, op by op, knowing the shape of each."""

from __future__ import annotations

from snndeploy.ir import (
    AvgPool2d,
    BatchNorm,
    Conv2d,
    Dropout,
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


class Builder:
    """Collects ops and edges. A method that adds ops returns the name of the last one.

    Args:
        shape: Of the input, (channels, height, width) or (features,).
        lif: Neuron of every layer.
    """

    def __init__(self, shape: Shape, lif: Lif) -> None:
        self.ops: dict[str, Op] = {}
        self.edges: list[Edge] = []
        self.shapes: dict[str, Shape] = {}
        self._lif = lif
        self.add("input", Input(shape=shape))

    def add(self, name: str, op: Op, *sources: str) -> str:
        """Any op, fed by the sum of its sources."""
        self.ops[name] = op
        self.edges += [Edge(source, name) for source in sources]
        self.shapes[name] = output_shape(name, op, self.shapes[sources[0]] if sources else ())
        return name

    def conv(
        self,
        name: str,
        channels: int,
        kernel: int,
        *sources: str,
        stride: int = 1,
        padding: int | None = None,
    ) -> str:
        """A square convolution without bias; by default it keeps the size of the map, but for the stride."""
        padding = kernel // 2 if padding is None else padding
        op = Conv2d(
            in_channels=self.shapes[sources[0]][0],
            out_channels=channels,
            kernel=(kernel, kernel),
            stride=(stride, stride),
            padding=(padding, padding),
        )
        return self.add(name, op, *sources)

    def linear(self, name: str, features: int, source: str, *, bias: bool = False) -> str:
        """A fully connected op."""
        op = Linear(in_features=self.shapes[source][0], out_features=features, bias=bias)
        return self.add(name, op, source)

    def norm(self, name: str, *sources: str) -> str:
        """Batch normalisation of the sum of its sources."""
        return self.add(name, BatchNorm(channels=self.shapes[sources[0]][0]), *sources)

    def lif(self, name: str, *sources: str) -> str:
        """Neurons driven by the sum of their sources."""
        return self.add(name, self._lif, *sources)

    def dropout(self, name: str, probability: float, source: str) -> str:
        """Dropout, or nothing if the probability is zero."""
        return self.add(name, Dropout(probability=probability), source) if probability else source

    def pool(self, name: str, size: int, source: str) -> str:
        """A tiling average pool."""
        return self.add(name, AvgPool2d(kernel=(size, size), stride=(size, size)), source)

    def global_pool(self, source: str) -> str:
        """The mean over the whole map, as a vector."""
        _, height, width = self.shapes[source]
        pooled = self.add("pool", AvgPool2d(kernel=(height, width), stride=(height, width)), source)
        return self.add("flatten", Flatten(), pooled)

    def graph(self, readout: str) -> Graph:
        """The finished graph, whose logits are what `readout` gives."""
        self.add("output", Output(), readout)
        return Graph(self.ops, tuple(self.edges))
