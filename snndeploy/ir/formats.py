"""Number formats: which numbers a network's weights may be, named in every file that holds some."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

WEIGHT_BITS = 8  # of a weight's mantissa, sign included: mantissas lie in [-127, 127]
LARGEST_MANTISSA = 2 ** (WEIGHT_BITS - 1) - 1
LARGEST_EXPONENT = 64  # either way: every value stays far from the ends of float32


@dataclass(frozen=True)
class Float32:
    """Ordinary single precision; back ends agree up to the order of their sums, not bit for bit."""

    name: Literal["float32"] = "float32"


@dataclass(frozen=True)
class Exact:
    """Weights are int8 x 2**-k, biases whole multiples of 2**-k, k per output channel.

    exponents: k for each output channel of every parameter, by parameter name.
    """

    exponents: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    name: Literal["exact"] = "exact"


@dataclass(frozen=True)
class Loihi:
    """The same grids, and neurons that compute as Lava's `fixed_pt` models do, see `snndeploy.ir.neurons`.

    exponents: k for each output channel of every parameter, by parameter name.
    """

    exponents: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    name: Literal["loihi"] = "loihi"


NumberFormat: TypeAlias = Float32 | Exact | Loihi


def mantissa(array: npt.NDArray[Any], exponents: tuple[int, ...]) -> npt.NDArray[np.float64]:
    """Values in units of their channel's grid, array * 2**k, k along the first axis."""
    scale = np.exp2(np.asarray(exponents, dtype=np.float64))
    scaled: npt.NDArray[np.float64] = array.astype(np.float64) * scale.reshape(-1, *(1,) * (array.ndim - 1))
    return scaled
