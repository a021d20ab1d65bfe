"""The configuration of a training run: frozen values, read from TOML and written back beside the results.

Every default is that of the digits demonstration, so `Config()` is its configuration.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import tomli_w

from snndeploy.backbones import BACKBONES
from snndeploy.errors import ConfigError, GraphError
from snndeploy.ir import BackwardConnection, Lif
from snndeploy.train.settings import override, read_toml, require, require_one_of, typed

DATA_SETS = (
    "digits",
    "recall",
    "moving_digits",
    "fashion_mnist",
    "cifar10",
    "cifar100",
    "tiny_imagenet",
    "cifar10_dvs",
)
AUGMENTATIONS = ("shift", "crop", "flip", "roll", "randaugment")
SURROGATES = ("triangle", "scaled_sigmoid", "sigmoid_reciprocal")
OPTIMIZERS = ("adamw", "adam", "sgd")
LOSSES = ("tet", "ce")
PENALTIES = ("syn", "total", "balance")
NEURONS = ("lif", "qrelu")
QUANTIZERS = ("uniform", "reciprocal")
DEVICES = ("auto", "cpu", "cuda")
PRECISIONS = ("float32", "bfloat16", "float16")
COMPILED = ("neurons", "network", "nothing")
FORMATS = ("none", "exact", "loihi")
GRANULARITIES = ("auto", "channel", "layer")
_MOST_CONVERSION_STEPS = 1000


@dataclass(frozen=True, kw_only=True)
class NetworkConfig:
    """The graph to train.

    backbone: Its name in `snndeploy.backbones`.
    backward: Backward connections, each "source port:target port" or "source port:target port:delay".
    steps: Logical time steps T.
    readout: How many of the last steps the answer is read from; 0 for the data set's own number, which is all
        of them where nothing else is said.
    tau, threshold: Of every LIF neuron.
    surrogate: Stand-in for the derivative of a spike, described in `snndeploy.nn.surrogate`; a parameter that
        it does not have is not used.
    surrogate_width: Half of the base of "triangle"; with 1 it is the piecewise linear function, too.
    surrogate_alpha: Scale of "scaled_sigmoid" and "sigmoid_reciprocal".
    surrogate_tau: Of "sigmoid_reciprocal", above the threshold; no leak.
    neuron: "lif" trains a spiking network; "qrelu" an ANN, which is then converted to spiking ones. That needs
        steps = 1, tau = 1 (the converted neurons do not leak) and no backward connections. What follows is
        used with "qrelu" only.
    levels: Of the activation of the ANN, above 0; see `snndeploy.nn.qrelu`.
    quantizer: Which levels these are: "uniform", as in the source, or "reciprocal", the rates of our neurons.
    conversion_steps: Logical time steps T of each spiking network that the ANN is converted to.
    conversion_thresholds: Factors on the threshold of the converted neurons, of which each T gets that with the
        highest accuracy on the validation samples.
    """

    backbone: str = "resnet8"
    backward: tuple[str, ...] = ("4:2",)
    steps: int = 4
    readout: int = 0
    tau: float = 0.5
    threshold: float = 1.0
    surrogate: str = "triangle"
    surrogate_width: float = 1.0
    surrogate_alpha: float = 0.25
    surrogate_tau: float = 0.6
    neuron: str = "lif"
    levels: int = 10
    quantizer: str = "uniform"
    conversion_steps: tuple[int, ...] = (1, 5, 10)
    conversion_thresholds: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        require(
            self.backbone in BACKBONES,
            "network.backbone",
            f"must be one of {', '.join(BACKBONES)}",
            self.backbone,
        )
        require(self.steps >= 1, "network.steps", "must be at least 1", self.steps)
        require(
            0 <= self.readout <= self.steps,
            "network.readout",
            f"must lie in [0, {self.steps}], the number of time steps",
            self.readout,
        )
        require(0 <= self.tau <= 1, "network.tau", "must lie in [0, 1]", self.tau)
        require(self.threshold > 0, "network.threshold", "must be positive", self.threshold)
        require_one_of(SURROGATES, "network.surrogate", self.surrogate)
        for name in ("surrogate_width", "surrogate_alpha", "surrogate_tau"):
            value = getattr(self, name)
            require(value > 0, f"network.{name}", "must be positive", value)
        _ = self.connections
        self._check_conversion()

    def _check_conversion(self) -> None:
        require_one_of(NEURONS, "network.neuron", self.neuron)
        require(1 <= self.levels <= 10**6, "network.levels", "must lie in [1, 1000000]", self.levels)
        require_one_of(QUANTIZERS, "network.quantizer", self.quantizer)
        asked = self.conversion_steps
        require(
            len(asked) > 0 and all(1 <= steps <= _MOST_CONVERSION_STEPS for steps in asked),
            "network.conversion_steps",
            f"must name at least one number of time steps, each in [1, {_MOST_CONVERSION_STEPS}]",
            asked,
        )
        require(
            len(set(asked)) == len(asked), "network.conversion_steps", "must name each number once", asked
        )
        factors = self.conversion_thresholds
        require(
            len(factors) > 0 and all(0 < factor <= 1000 for factor in factors),
            "network.conversion_thresholds",
            "must name at least one factor, each positive and at most 1000",
            factors,
        )
        if self.neuron == "qrelu":
            why = "with network.neuron = qrelu"
            require(self.steps == 1, "network.steps", f"must be 1 {why}: an ANN has no time", self.steps)
            require(self.tau == 1, "network.tau", f"must be 1 {why}: rates add up without a leak", self.tau)
            require(
                not self.backward,
                "network.backward",
                f"must be empty {why}: an ANN has no time",
                self.backward,
            )
            self._check_thresholds()

    def _check_thresholds(self) -> None:
        """Before training, as neurons are converted after it."""
        try:
            for factor in self.conversion_thresholds:
                Lif(threshold=factor * Lif(threshold=self.threshold).threshold)
        except GraphError as error:
            raise ConfigError(
                "network.conversion_thresholds",
                f"times network.threshold = {self.threshold:g} must be thresholds: {error.rule}",
                got=self.conversion_thresholds,
            ) from None

    @property
    def connections(self) -> tuple[BackwardConnection, ...]:
        """The backward connections, read."""
        return tuple(_connection(text) for text in self.backward)


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """What to train on. Each data set is described, with its own values, in `snndeploy.train.data`.

    name: The data set.
    folder: Where the files of data sets are, each data set in a folder of its own.
    download: Whether files that are missing are fetched from the web.
    url: Where from, if not from the official address; checksums are those of the official files.
    seed: Of the split into train, validation and test, and of sequences that are drawn once.
    validation: Training samples set aside, as a number or, below 1, as a share; 0 for the data set's own.
    merge_validation: Train on them, too: for a final training, once nothing is left to be chosen.
    augment: Random changes of training images, in this order; "auto" stands for the data set's own.
    shift: Largest move of the augmentation "shift", in raw pixels each way.
    normalize: Whether values get mean 0 and deviation 1, where the data set has a mean and a deviation.
    repeat: How many times rows and columns of an image are repeated; 0 for the data set's own.
    grid_bits: Input is rounded to multiples of 2**-grid_bits; -1 for the data set's own.
    steps: Frames of a sequence; 0 for the data set's own.
    size: Edge of a frame in pixels; 0 for the data set's own.
    """

    name: str = "digits"
    folder: str = "data"
    download: bool = False
    url: str = ""
    seed: int = 0
    validation: float = 0.0
    merge_validation: bool = False
    augment: tuple[str, ...] = ("auto",)
    shift: int = 1
    normalize: bool = True
    repeat: int = 0
    grid_bits: int = -1
    steps: int = 0
    size: int = 0

    def __post_init__(self) -> None:
        require_one_of(DATA_SETS, "data.name", self.name)
        require(self.seed >= 0, "data.seed", "must be at least 0", self.seed)
        share = 0 <= self.validation < 1 or (self.validation >= 1 and self.validation % 1 == 0)
        require(share, "data.validation", "must be a share below 1 or a whole number", self.validation)
        for name in self.augment:
            require_one_of(("auto", *AUGMENTATIONS), "data.augment", name)
        require(-1 <= self.grid_bits <= 16, "data.grid_bits", "must lie in [-1, 16]", self.grid_bits)
        for name, most in (("shift", 64), ("repeat", 64), ("steps", 100_000), ("size", 1024)):
            value = getattr(self, name)
            require(0 <= value <= most, f"data.{name}", f"must lie in [0, {most}]", value)


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """How the weights are changed.

    name: "adamw" with decoupled weight decay; "adam" or "sgd" with momentum, where it is part of the gradient.
    lr: Largest learning rate.
    weight_decay: As PyTorch counts it.
    decay_norm: Whether it acts on the parameters of BatchNorm, too.
    momentum: Of "sgd".
    clip_norm: Largest norm of the gradient; 0 leaves it as it is.
    schedule: "cosine" falls to 0 at the end.
    warmup_epochs: Epochs during which the learning rate grows linearly.
    """

    name: str = "adamw"
    lr: float = 0.02
    weight_decay: float = 0.02
    decay_norm: bool = True
    momentum: float = 0.9
    epochs: int = 15
    batch_size: int = 64
    clip_norm: float = 1.0
    schedule: str = "cosine"
    warmup_epochs: float = 1.0

    def __post_init__(self) -> None:
        require_one_of(OPTIMIZERS, "optimizer.name", self.name)
        require(self.schedule == "cosine", "optimizer.schedule", "must be cosine", self.schedule)
        require(0 < self.lr <= 1e30, "optimizer.lr", "must be positive and at most 1e30", self.lr)
        require(
            0 <= self.weight_decay <= 1000,
            "optimizer.weight_decay",
            "must lie in [0, 1000]",
            self.weight_decay,
        )
        require(0 <= self.momentum < 1, "optimizer.momentum", "must lie in [0, 1)", self.momentum)
        require(1 <= self.epochs <= 10**6, "optimizer.epochs", "must lie in [1, 1000000]", self.epochs)
        require(self.batch_size >= 2, "optimizer.batch_size", "must be at least 2", self.batch_size)
        require(
            0 <= self.clip_norm <= 1e9, "optimizer.clip_norm", "must lie in [0, 1000000000]", self.clip_norm
        )
        require(
            0 <= self.warmup_epochs <= self.epochs,
            "optimizer.warmup_epochs",
            f"must lie in [0, {self.epochs}], the number of epochs",
            self.warmup_epochs,
        )

    def lasting(self, epochs: int) -> OptimizerConfig:
        """The same for another number of epochs, with a warm-up that is no longer than they are."""
        return dataclasses.replace(self, epochs=epochs, warmup_epochs=min(self.warmup_epochs, epochs))


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """What is minimised.

    name: "tet", the mean over the steps of the cross entropy of each; "ce", the cross entropy of the mean.
    mse_weight: Share of the mean squared distance of the logits from 1, the regulariser of TET.
    """

    name: str = "tet"
    mse_weight: float = 0.0

    def __post_init__(self) -> None:
        require_one_of(LOSSES, "loss.name", self.name)
        require(0 <= self.mse_weight <= 1, "loss.mse_weight", "must lie in [0, 1]", self.mse_weight)
        require(
            self.name == "tet" or self.mse_weight == 0,
            "loss.mse_weight",
            f"must be 0 with {self.name}, as it is a part of tet",
            self.mse_weight,
        )


@dataclass(frozen=True, kw_only=True)
class PenaltyConfig:
    """What a spike costs while training; see `snndeploy.train.penalty`.

    name: Weight of a neuron's spikes: "syn" the synapses it drives, "total" 1, "balance" 1 / neurons of its layer.
    intensity: Factor of the penalty in the loss at the end of training; 0 for no penalty.
    normalised: Whether the intensity is that of the penalty divided by its value when all neurons always fire.
    power: p, 1 or 2; with 2 only neurons that fired are pushed down.
    psi: How synapses are counted: "exact", or "nominal" with the borders of maps ignored.
    schedule: "linear" lets the intensity grow from 0 over the training, "constant" does not.
    """

    name: str = "syn"
    intensity: float = 0.0
    normalised: bool = False
    power: int = 1
    psi: str = "exact"
    schedule: str = "linear"

    def __post_init__(self) -> None:
        require_one_of(PENALTIES, "penalty.name", self.name)
        require(self.intensity >= 0, "penalty.intensity", "must be at least 0", self.intensity)
        require(self.power in (1, 2), "penalty.power", "must be 1 or 2", self.power)
        require_one_of(("exact", "nominal"), "penalty.psi", self.psi)
        require_one_of(("linear", "constant"), "penalty.schedule", self.schedule)


@dataclass(frozen=True, kw_only=True)
class QuantizeConfig:
    """What follows an ordinary training: fine-tuning on the grids of a number format, see `snndeploy.train.grids`.

    format: "exact" or "loihi"; "none" for no fine-tuning.
    bits: Of a weight's mantissa, sign included.
    granularity: "channel" gives each output channel a grid of its own, "layer" one to all of an op; "auto" is
        "channel" in exact and, for one threshold in a population, "layer" in loihi.
    epochs: How long, after the epochs of the ordinary training.
    lr: Largest learning rate meanwhile. Everything else about the optimiser is as before; a warm-up is no
        longer than these epochs.
    """

    format: str = "none"
    bits: int = 8
    granularity: str = "auto"
    epochs: int = 5
    lr: float = 0.002

    def __post_init__(self) -> None:
        require_one_of(FORMATS, "quantize.format", self.format)
        require(2 <= self.bits <= 8, "quantize.bits", "must lie in [2, 8]", self.bits)
        require_one_of(GRANULARITIES, "quantize.granularity", self.granularity)
        require(1 <= self.epochs <= 10**6, "quantize.epochs", "must lie in [1, 1000000]", self.epochs)
        require(0 < self.lr <= 1e30, "quantize.lr", "must be positive and at most 1e30", self.lr)

    @property
    def shares_a_grid(self) -> Literal["channel", "layer"]:
        """What has one grid."""
        if self.granularity == "auto":
            return "layer" if self.format == "loihi" else "channel"
        return "layer" if self.granularity == "layer" else "channel"


@dataclass(frozen=True, kw_only=True)
class Config:
    """Everything that decides a training run.

    seed: Of the initial weights, the order of the batches, augmentation and dropout.
    threads: PyTorch's threads; a result can be repeated to the bit with the same number only.
    start: A network file whose weights to start from; see `snndeploy.train.start`.
    device: Where to train; "auto" takes a GPU if there is one.
    precision: Of the products of convolutions and fully connected layers while training. Membranes, sums,
        batch statistics and the loss stay in float32, and so does all that is measured.
    compile: "neurons", where there is a C compiler and training is on a CPU; "network", the whole training pass by
        PyTorch's compiler, which takes minutes at the start and so is for long trainings; or "nothing".
    deterministic: Refuse operations whose result may differ from run to run, which some on a GPU do.
    calibration_batches: Of the training samples, after every epoch, for the running statistics; 0 for all.
    checkpoint_batches: Batches between checkpoints within an epoch; 0 for none. After an epoch there always
        is one.
    checkpoint_seconds: Seconds after which there is one within an epoch; 0 for never.
    tensorboard: Whether the metrics are also written for TensorBoard.

    Example:
        >>> config = Config.from_mapping({"optimizer": {"epochs": 3}, "network": {"backward": ["6:4"]}})
        >>> config.optimizer.epochs, config.network.connections
        (3, (BackwardConnection(source=6, target=4, delay=1),))
    """

    seed: int = 0
    threads: int = 1
    start: str = ""
    device: str = "auto"
    precision: str = "float32"
    compile: str = "neurons"
    deterministic: bool = False
    calibration_batches: int = 0
    checkpoint_batches: int = 0
    checkpoint_seconds: float = 600.0
    tensorboard: bool = False
    network: NetworkConfig = field(default_factory=NetworkConfig)
    data: DataConfig = field(default_factory=DataConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    penalty: PenaltyConfig = field(default_factory=PenaltyConfig)
    quantize: QuantizeConfig = field(default_factory=QuantizeConfig)

    def __post_init__(self) -> None:
        require(self.seed >= 0, "seed", "must be at least 0", self.seed)
        require(1 <= self.threads <= 1024, "threads", "must lie in [1, 1024]", self.threads)
        require_one_of(DEVICES, "device", self.device)
        require_one_of(PRECISIONS, "precision", self.precision)
        require_one_of(COMPILED, "compile", self.compile)
        for name in ("calibration_batches", "checkpoint_batches", "checkpoint_seconds"):
            value = getattr(self, name)
            require(value >= 0, name, "must be at least 0", value)
        require(
            self.network.neuron != "qrelu"
            or not self.data.merge_validation
            or len(self.network.conversion_thresholds) == 1,
            "network.conversion_thresholds",
            "must be one factor with data.merge_validation, as no sample is left to choose by",
            self.network.conversion_thresholds,
        )
        require(
            self.network.neuron == "lif" or self.quantize.format == "none",
            "quantize.format",
            f"must be none with network.neuron = {self.network.neuron}, as an ANN is converted after training",
            self.quantize.format,
        )

    @property
    def training(self) -> Config:
        """Of the ordinary training alone, which no fine-tuning changes."""
        return dataclasses.replace(self, quantize=QuantizeConfig())

    @property
    def fine_tuning(self) -> Config:
        """Of the fine-tuning alone, which starts with the trained network and keeps the penalty it ended with.

        Its products are not rounded to a low precision, as those of the exported network are not either.
        """
        optimizer = dataclasses.replace(self.optimizer.lasting(self.quantize.epochs), lr=self.quantize.lr)
        penalty = dataclasses.replace(self.penalty, schedule="constant")
        return dataclasses.replace(self, start="", precision="float32", optimizer=optimizer, penalty=penalty)

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any]) -> Config:
        """Reads a configuration; what is left out keeps its default.

        Raises:
            ConfigError: A key is unknown, or a value has the wrong type or is out of range.
        """
        return typed(cls, mapping)

    @classmethod
    def from_file(cls, path: Path, settings: Sequence[str] = ()) -> Config:
        """Reads a TOML file, with `settings` such as "optimizer.lr=0.01" put on top.

        Raises:
            ConfigError: The file cannot be read, is no TOML, or holds no valid configuration.
        """
        return cls.from_mapping(override(read_toml(path), settings))

    def to_toml(self) -> str:
        """The configuration as TOML, complete."""
        return tomli_w.dumps(dataclasses.asdict(self))


def _connection(text: str) -> BackwardConnection:
    parts = text.split(":")
    require(
        len(parts) in (2, 3) and all(part.isdecimal() and part.isascii() for part in parts),
        "network.backward",
        'must look like "5:2" or "5:2:1" (source port, target port, delay)',
        text,
    )
    return BackwardConnection(*(int(part) for part in parts))
