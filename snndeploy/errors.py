"""What can go wrong because of an input, each as one error that says where, which rule and how to mend it."""

from __future__ import annotations

from functools import partial
from typing import Any

_LONGEST = 400  # characters of an offending value that a message shows


class SnnDeployError(ValueError):
    """An input broke a rule of the toolchain.

    Args:
        where: The op, edge, file or option at fault.
        rule: What must hold.
        got: The offending value; left out of the message when None.
        remedy: What the user can do about it.
    """

    def __init__(self, where: str, rule: str, *, got: object = None, remedy: str = "") -> None:
        self.where = where
        self.rule = rule
        self.got = got
        self.remedy = remedy
        message = f"{where}: {rule}"
        if got is not None:
            text = str(got)
            message += f", got {text if len(text) <= _LONGEST else text[:_LONGEST] + '...'}"
        if remedy:
            message += f"; {remedy}"
        # A name out of a file may hold half a character, which no terminal could print.
        super().__init__(message.encode("utf-8", "backslashreplace").decode("utf-8"))

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(type(self), got=self.got, remedy=self.remedy), (self.where, self.rule)


class GraphError(SnnDeployError):
    """The graph breaks an invariant."""


class NetworkError(SnnDeployError):
    """Weights, steps or input description do not fit the graph."""


class FileFormatError(SnnDeployError):
    """A file is damaged, of another kind, or of another version."""


class QuantizeError(SnnDeployError):
    """A network cannot be put into the number format asked for."""


class TimingError(SnnDeployError):
    """A schedule asked for does not exist."""


class ConfigError(SnnDeployError):
    """A configuration or command-line value is not allowed."""


class TargetError(SnnDeployError):
    """A back end or target is missing, failed, or was asked for something it cannot do."""
