"""How raw data becomes what enters a network."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from snndeploy.errors import FileFormatError, NetworkError

_LARGEST = float(np.finfo(np.float32).max)
_MOST_REPEATS = 1024
_MOST_BITS = 16
_CHECKED = 2**16  # values checked at a time: they stay in the cache


@dataclass(frozen=True, kw_only=True)
class InputSpec:
    """How raw data becomes what enters the network.

    Raw values are divided by `divisor`, normalised with `mean` and `std` (empty: not at all; one number, or
    one per channel), rounded to multiples of 2**-grid_bits (None: not at all) and enlarged `repeat` times by
    repetition of rows and columns. `low` and `high` bound every value after that.

    kind: "image" repeats one frame at every time step (direct coding); "frames" has one frame per step.
    """

    kind: Literal["image", "frames"] = "image"
    divisor: float = 1.0
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    repeat: int = 1
    grid_bits: int | None = None
    low: float = 0.0
    high: float = 1.0

    def __post_init__(self) -> None:
        if self.kind not in ("image", "frames"):
            raise NetworkError("input", "kind must be 'image' or 'frames'", got=repr(self.kind))
        for name in ("divisor", "low", "high"):
            object.__setattr__(self, name, _real(name, getattr(self, name)))
        for name in ("mean", "std"):
            if not isinstance(values := getattr(self, name), tuple):
                raise NetworkError("input", f"{name} must be a tuple of numbers", got=repr(values))
            object.__setattr__(self, name, tuple(_real(name, value) for value in values))
        if self.divisor <= 0 or any(s <= 0 for s in self.std):
            raise NetworkError("input", "divisor and std must be positive", got=(self.divisor, *self.std))
        if len(self.mean) != len(self.std):
            raise NetworkError("input", "mean and std must name the same channels", got=(self.mean, self.std))
        if not self.low <= 0.0 <= self.high:
            raise NetworkError(
                "input", "low <= 0 <= high must hold, as padding is zero", got=(self.low, self.high)
            )
        if not _is_whole(self.repeat, 1, _MOST_REPEATS):
            raise NetworkError(
                "input", f"repeat must be a whole number in [1, {_MOST_REPEATS}]", got=repr(self.repeat)
            )
        if self.grid_bits is not None and not _is_whole(self.grid_bits, 0, _MOST_BITS):
            raise NetworkError(
                "input", f"grid_bits must be None or lie in [0, {_MOST_BITS}]", got=repr(self.grid_bits)
            )

    @staticmethod
    def from_json(value: object) -> InputSpec:
        """The description that JSON values stand for; the inverse of `to_json`.

        Raises:
            FileFormatError: The value is no description of input.
            NetworkError: It describes input that breaks a rule.
        """
        names = {f.name for f in fields(InputSpec)}
        if not isinstance(value, dict) or set(value) != names:
            got = repr(sorted(value) if isinstance(value, dict) else value)
            raise FileFormatError(
                "input", f"must be an object with the fields {sorted(names)}", got=got[:120]
            )
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in value.items()}
        return InputSpec(**values)

    def to_json(self) -> dict[str, object]:
        """The description as JSON values."""
        return {key: list(v) if isinstance(v, tuple) else v for key, v in asdict(self).items()}

    def prepare(self, raw: npt.NDArray[Any], *, axes: int = 3) -> npt.NDArray[np.float32]:
        """Turns raw samples into network input of the same axes.

        Args:
            raw: (..., channels, height, width), or (..., features) with `axes` 1, of any real type.
            axes: Axes of one frame: 3 for maps, 1 for vectors.

        Raises:
            NetworkError: A value falls outside [low, high], or the channels are not those of mean and std, or
                the samples are no array of real numbers.
        """
        x = self._scaled(raw)
        if x.ndim < axes and (self.repeat > 1 or len(self.mean) > 1):
            raise NetworkError("input", f"must have at least {axes} axes", got=x.shape)
        if self.mean:
            if len(self.mean) > 1 and x.shape[-axes] != len(self.mean):
                raise NetworkError("input", f"must have {len(self.mean)} channels", got=x.shape)
            per_channel = (-1, *(1,) * (axes - 1)) if len(self.mean) > 1 else ()
            with np.errstate(over="ignore"):  # infinite values fail the check of the range
                x = (x - np.reshape(self.mean, per_channel)) / np.reshape(self.std, per_channel)
        if self.grid_bits is not None:
            x = np.round(x * 2.0**self.grid_bits) / 2.0**self.grid_bits
        if self.repeat > 1:
            x = x.repeat(self.repeat, axis=-2).repeat(self.repeat, axis=-1)
        self._check_range(x)
        return x.astype(np.float32)

    def check(self, x: npt.NDArray[Any]) -> None:
        """Raises NetworkError unless prepared values lie in [low, high] and on the grid, if there is one."""
        self._check_range(x)
        if self.grid_bits is None:
            return
        flat, scale = x.reshape(-1), 2.0**self.grid_bits
        parts = (flat[start : start + _CHECKED] * scale for start in range(0, flat.size, _CHECKED))
        if any((part != np.rint(part)).any() for part in parts):
            raise NetworkError(
                "input",
                f"values must be whole multiples of 2**-{self.grid_bits}",
                remedy="prepare the raw data with the network's own input.prepare",
            )

    def _scaled(self, raw: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        try:
            given = np.asarray(raw)
        except ValueError as error:  # lists of unequal lengths
            raise NetworkError("input", "must be an array of real numbers", got=error) from None
        if given.dtype.kind not in "buif":
            raise NetworkError("input", "must be an array of real numbers", got=given.dtype)
        with np.errstate(over="ignore"):  # infinite values fail the check of the range
            scaled: npt.NDArray[np.float64] = given.astype(np.float64) / self.divisor
        return scaled

    def _check_range(self, x: npt.NDArray[Any]) -> None:
        if x.size and not (x.min() >= self.low and x.max() <= self.high):
            raise NetworkError(
                "input",
                f"values must lie in [{self.low:g}, {self.high:g}] after preparation",
                got=f"[{x.min():g}, {x.max():g}]",
                remedy="check the raw data's range against the network's divisor, mean and std",
            )


def _real(name: str, value: object) -> float:
    """A number as float, if it is one within the range of float32; NaN is not."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) <= _LARGEST:
        raise NetworkError("input", f"{name} must be finite", got=repr(value))
    return float(value)


def _is_whole(value: object, low: int, high: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high
