"""The data sets by name."""

from __future__ import annotations

from snndeploy.errors import ConfigError
from snndeploy.train.config import DATA_SETS, DataConfig
from snndeploy.train.data.cifar import CIFAR10, CIFAR100
from snndeploy.train.data.cifar import source as cifar
from snndeploy.train.data.cifar10_dvs import source as cifar10_dvs
from snndeploy.train.data.fashion_mnist import source as fashion_mnist
from snndeploy.train.data.handwritten import source as digits
from snndeploy.train.data.moving_digits import source as moving_digits
from snndeploy.train.data.recall import source as recall
from snndeploy.train.data.samples import Dataset
from snndeploy.train.data.source import Source, assemble, fake_parts, with_spare_share
from snndeploy.train.data.tiny_imagenet import source as tiny_imagenet


def load(config: DataConfig) -> Dataset:
    """The data set a configuration names.

    Raises:
        ConfigError: Its files are missing (the message says how to get them), or a setting does not suit it.
        FileFormatError: A file of it is damaged.
    """
    source = find(config)
    return assemble(source, source.read(), config)


def fake(config: DataConfig, count: int, *, seed: int = 0) -> Dataset:
    """Random noise of the shape, range and classes of the data set a configuration names; reads no file.

    Args:
        config: What to imitate; settings are checked as for the real data, except the number of samples set
            aside for validation, which is a fifth of `count` where that data set has no such part of its own.
        count: Samples to train on, and as many to test with.
        seed: Of the noise.

    Raises:
        ConfigError: A setting does not suit the data set.

    Example:
        >>> data = fake(DataConfig(name="cifar100"), 10)
        >>> data.shape, len(data.classes), len(data.train), len(data.validation), len(data.test)
        ((3, 32, 32), 100, 8, 2, 10)
    """
    source = with_spare_share(find(config))
    return assemble(source, fake_parts(source, count, seed), config)


def find(config: DataConfig) -> Source:
    """What is known of a data set without reading it.

    Raises:
        ConfigError: There is none of that name, or a setting does not suit it.
    """
    match config.name:
        case "digits":
            return digits(config)
        case "recall":
            return recall(config)
        case "moving_digits":
            return moving_digits(config)
        case "fashion_mnist":
            return fashion_mnist(config)
        case "cifar10":
            return cifar(config, CIFAR10)
        case "cifar100":
            return cifar(config, CIFAR100)
        case "tiny_imagenet":
            return tiny_imagenet(config)
        case "cifar10_dvs":
            return cifar10_dvs(config)
        case name:
            raise ConfigError("data.name", f"must be one of {', '.join(DATA_SETS)}", got=repr(name))
