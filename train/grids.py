"""Weights that stay on the grids of a number format while a folded network is fine-tuned.

The weights that are trained, the shadow weights, are ordinary float32 numbers. Forward and backward pass see them
rounded, with the very values that the exported network holds, and gradients are applied to the shadow weights
as if there had been no rounding: the straight-through estimator (Bengio, Leonard, Courville, 2013,
arXiv:1308.3432). Where rounding would clip, the gradient is not set to zero, from which a weight could not come
back; the shadow weights themselves are kept within range after every step (Courbariaux, Bengio, David,
BinaryConnect, NeurIPS 2015).

Neurons have no part in this. The forward pass therefore is that of the exported network to the bit in the exact
format. In the loihi format it lacks the rounding of the leak, at most 1/64 of the unit of a weight for a neuron
and time step; what is measured of the network has it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from snndeploy.ir import Exact, Float32, Graph, Loihi, Network, Quantized, certify, quantize
from snndeploy.ir.neurons import LARGEST_BIAS_MANTISSA
from snndeploy.ir.quantize.branches import inflows
from snndeploy.nn import SpikingNetwork
from snndeploy.train.config import QuantizeConfig
from snndeploy.train.data import Dataset, network_input

_CALIBRATION_SAMPLES = 128
_LARGEST_BIAS = 2**24  # mantissa; every whole number up to it is one of float32


class Grids:
    """The grids of a network, what keeps its weights on them, and what replaces them when they are outgrown.

    Args:
        config: Which format, how many bits, and what shares a grid.
        start: The network as `quantized` gave it.
        calibration: What new grids are calibrated on, prepared input.
    """

    def __init__(self, config: QuantizeConfig, start: Network, calibration: npt.NDArray[Any]) -> None:
        self.config, self.calibration = config, calibration
        self.replaced = 0  # how often the grids have been replaced
        self.exponents = _exponents(start)
        self._registers = _registers(start)

    @property
    def format(self) -> Exact | Loihi:
        """The number format of the network."""
        return Loihi(self.exponents) if self.config.format == "loihi" else Exact(self.exponents)

    @contextmanager
    def rounding(self, network: SpikingNetwork) -> Iterator[None]:
        """Within it a network has its weights rounded; afterwards again what it had before.

        Gradients that are found within it are those of the rounded weights, and stay.
        """
        shadow = {name: network.tensor(name).detach().clone() for name in self.exponents}
        with torch.no_grad():
            for name, values in shadow.items():
                network.tensor(name).copy_(self._rounded(name, values))
        try:
            yield
        finally:
            with torch.no_grad():
                for name, values in shadow.items():
                    network.tensor(name).copy_(values)

    def confine(self, network: SpikingNetwork) -> None:
        """Brings weights that are beyond the largest of their grid back to it."""
        with torch.no_grad():
            for name in self.exponents:
                values, scale = network.tensor(name), self._scale(name, network.tensor(name))
                values.clamp_(-self._largest(name) / scale, self._largest(name) / scale)

    def settle(self, network: SpikingNetwork, shadow: Network) -> Graph:
        """Replaces the grids if the certificate does not hold any longer with what the weights have become.

        Args:
            network: Whose weights are trained; its biases take the values that the new grids come with.
            shadow: The same before rounding.

        Returns:
            The graph, whose thresholds follow the grids in the loihi format.

        Raises:
            QuantizeError: No grids allow a certificate.
        """
        with self.rounding(network):
            rounded = network.weights()
        if certify(replace(shadow, weights=rounded, format=self.format)).holds:
            return shadow.graph
        found = quantized(shadow, self.config, self.calibration).network
        self.exponents = _exponents(found)
        self.replaced += 1
        network.load_weights(shadow_weights(shadow, found))
        self.confine(network)
        return found.graph

    def document(self) -> dict[str, Any]:
        """What changes while training, as JSON values."""
        return {"replaced": self.replaced, "exponents": {n: list(k) for n, k in self.exponents.items()}}

    def restore(self, document: Mapping[str, Any]) -> None:
        """Takes over what `document` gave.

        Raises:
            ValueError: It is of another network.
        """
        if document["exponents"].keys() != self.exponents.keys():
            raise ValueError("the grids are those of another network")
        self.exponents = {n: tuple(int(k) for k in ks) for n, ks in document["exponents"].items()}
        self.replaced = int(document["replaced"])

    def _rounded(self, name: str, values: Tensor) -> Tensor:
        scale, largest = self._scale(name, values), self._largest(name)
        mantissas = torch.round(values * scale).clamp(-largest, largest)
        return mantissas / scale + 0.0  # of two zeros the positive one, which is what a file holds

    def _scale(self, name: str, values: Tensor) -> Tensor:
        """2**k, to be multiplied with the values of a parameter."""
        scale = torch.tensor(np.exp2(self.exponents[name]), dtype=values.dtype, device=values.device)
        return scale.view(-1, *(1,) * (values.ndim - 1))

    def _largest(self, name: str) -> int:
        """The largest mantissa of a parameter."""
        if name.endswith(".weight"):
            return (1 << (self.config.bits - 1)) - 1
        return LARGEST_BIAS_MANTISSA if name in self._registers else _LARGEST_BIAS


def quantized(network: Network, config: QuantizeConfig, calibration: npt.NDArray[Any]) -> Quantized:
    """A folded float32 network in the format that a configuration asks for, without fine-tuning.

    Raises:
        QuantizeError: No grids allow a certificate.
    """
    form: Literal["exact", "loihi"] = "loihi" if config.format == "loihi" else "exact"
    return quantize(network, calibration, format=form, bits=config.bits, granularity=config.shares_a_grid)


def shadow_weights(network: Network, found: Network) -> dict[str, npt.NDArray[Any]]:
    """Where fine-tuning starts: the weights before rounding, and biases that make up for the rounding.

    Args:
        network: Folded, in float32.
        found: The same, quantised.
    """
    return {
        name: array if name.endswith(".weight") else found.weights[name]
        for name, array in network.weights.items()
    }


def calibration(source: Dataset, seed: int) -> npt.NDArray[Any]:
    """A few training samples as prepared input, of which sequences are drawn from a seed."""
    raw = source.train.take(slice(0, _CALIBRATION_SAMPLES))
    return network_input(source.present(raw, np.random.default_rng(seed), augmented=False), source.input)


def _exponents(network: Network) -> dict[str, tuple[int, ...]]:
    if isinstance(network.format, Float32):
        raise TypeError("a network in float32 has no grids")
    return dict(network.format.exponents)


def _registers(network: Network) -> frozenset[str]:
    """Biases that are all that a neuron's register holds, by the name of the parameter.

    Where several enter a neuron it holds their sum alone, which may be small while they are not, and the Output
    has no register: there the certificate decides.
    """
    if not isinstance(network.format, Loihi):
        return frozenset()
    entering, found = inflows(network), set()
    for name in network.graph.ports:
        biased = [b for b in entering[name].branches if f"{b.op}.bias" in network.weights]
        if len(biased) == 1 and biased[0].paths == 1:
            found.add(f"{biased[0].op}.bias")
    return frozenset(found)
