"""Spiking networks to start from: functions that return a Graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from snndeploy.backbones.penalised import cnn7, resnet18_preact, vgg11
from snndeploy.backbones.resnet import resnet6, resnet8, resnet18, resnet18_plain, resnet19
from snndeploy.errors import ConfigError
from snndeploy.ir import Graph, Shape

BACKBONES: Mapping[str, Callable[[Shape, int], Graph]] = MappingProxyType(
    {
        "resnet6": resnet6,
        "resnet8": resnet8,
        "resnet18": resnet18,
        "resnet18_plain": resnet18_plain,
        "resnet19": resnet19,
        "cnn7": cnn7,
        "vgg11": vgg11,
        "resnet18_preact": resnet18_preact,
    }
)

__all__ = [
    "BACKBONES",
    "backbone",
    "cnn7",
    "resnet6",
    "resnet8",
    "resnet18",
    "resnet18_plain",
    "resnet18_preact",
    "resnet19",
    "vgg11",
]


def backbone(name: str, shape: Shape, classes: int) -> Graph:
    """The backbone of that name.

    Raises:
        ConfigError: There is none; the message lists those there are.
        GraphError: The input is too small for it.
    """
    if name not in BACKBONES:
        raise ConfigError(
            f"backbone {name!r}", "is not known", remedy=f"choose one of {', '.join(BACKBONES)}"
        )
    return BACKBONES[name](shape, classes)
