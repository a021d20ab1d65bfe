"""Configurations of a search: read, overridden, refused, written back."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import pytest

from snndeploy.errors import ConfigError
from snndeploy.train.config import Config
from snndeploy.train.search.config import SearchConfig

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

EXAMPLE = """
seed = 4
mode = "deploy"
objective = "pareto"

[space]
most = 3
delay = "pipelined"
forbidden_inputs = [0]
limits = {interval = 2, energy_pj = 1000}

[score]
candidates = 200

[confirm]
seeds = [1, 2]

[training]
threads = 2

[training.network]
backbone = "resnet6"
steps = 10

[training.optimizer]
epochs = 25
"""


def read(tmp_path: Path, settings: list[str], text: str = EXAMPLE) -> SearchConfig:
    """A configuration file with settings put on top."""
    path = tmp_path / "search.toml"
    path.write_text(text)
    return SearchConfig.from_file(path, settings)


def test_defaults_are_the_published_values() -> None:
    """2 of 11 782: b = 2, 2000 candidates, 20 iterations of 20 out of 10 parents, and so on."""
    config = SearchConfig()
    evolution = config.evolution
    assert (config.mode, config.objective, config.space.most, config.score.candidates) == (
        "paper",
        "accuracy",
        2,
        2000,
    )
    assert (evolution.iterations, evolution.population, evolution.parents) == (20, 20, 10)
    assert (evolution.mutations, evolution.crossovers, evolution.attempts) == (10, 10, 60)
    assert (evolution.mutation_probability, evolution.crossover_probability) == (0.2, 0.5)
    assert config.supernet.epochs == 100
    optimizer = config.training.optimizer
    assert (optimizer.name, optimizer.lr, optimizer.weight_decay, optimizer.schedule) == (
        "adamw",
        0.01,
        0.02,
        "cosine",
    )
    assert config.training.network.backward == ()
    assert SearchConfig.from_mapping({}) == config


def test_what_is_left_out_keeps_its_default(tmp_path: Path) -> None:
    """Of the training part, too: the defaults of a search, not those of a training run."""
    config = read(tmp_path, [])
    assert (config.seed, config.mode, config.space.most, config.confirm.seeds) == (4, "deploy", 3, (1, 2))
    assert (config.space.limits.interval, config.space.limits.energy_pj) == (2, 1000.0)
    assert (config.training.network.backbone, config.training.network.steps) == ("resnet6", 10)
    assert (config.training.threads, config.training.optimizer.epochs) == (2, 25)
    assert config.training.optimizer.lr == 0.01
    assert config.training.network.backward == ()
    assert config.training.loss == Config().loss


def test_settings_win_over_the_file(tmp_path: Path) -> None:
    """However deep a section lies."""
    settings = ["training.optimizer.lr=0.5", "space.limits.interval=7", "mode=paper", "score.scores=n"]
    config = read(tmp_path, settings)
    assert (config.training.optimizer.lr, config.space.limits.interval) == (0.5, 7)
    assert (config.mode, config.score.scores) == ("paper", "n")


def test_round_trip(tmp_path: Path) -> None:
    """What is written is complete and reads back as the same configuration."""
    config = read(tmp_path, [])
    written = tomllib.loads(config.to_toml())
    assert set(written) == {field.name for field in dataclasses.fields(SearchConfig)}
    assert SearchConfig.from_mapping(written) == config


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["sede=1"], r"configuration: has no key 'sede'; the keys are seed, mode, .*, training"),
        (["seed=-1"], r"seed: must be at least 0"),
        (["mode=fast"], r"mode: must be one of paper, deploy, got 'fast'"),
        (["objective=energy"], r"objective: must be one of accuracy, limits, pareto"),
        (["objective=accuracy"], r"objective: must be limits or pareto where limits are set"),
        (
            ["objective=limits", "space.limits.interval=0", "space.limits.energy_pj=0"],
            r"space\.limits: must be set for limits",
        ),
        (["space.depth=1"], r"space: has no key 'depth'; the keys are most, delay, .*, limits"),
        (["space.most=0"], r"space\.most: must lie in \[1, 1000\]"),
        (["space.delay=2"], r"space\.delay: must be a string, got 2"),
        (["space.delay=two"], r"space\.delay: must be one of one, pipelined"),
        (["space.forbidden_inputs=[-1]"], r"space\.forbidden_inputs: must be numbers of ports"),
        (["space.forbidden_outputs=[1.5]"], r"space\.forbidden_outputs: must be a whole number"),
        (["space.limits=3"], r"space\.limits: must be a table, got 3"),
        (["space.limits.watts=3"], r"space\.limits: has no key 'watts'; the keys are interval, "),
        (["space.limits.parameters=-3"], r"space\.limits\.parameters: must be at least 0"),
        (["score.scores=neither"], r"score\.scores: must be one of both, n, e"),
        (["score.candidates=-1"], r"score\.candidates: must lie in \[0, 10000000\]"),
        (["score.batch=9"], r"score\.batch: must lie in \[10, 100000\]"),
        (["score.variant=new"], r"score\.variant: must be one of code, normalised"),
        (["score.reliability_candidates=2"], r"score\.reliability_candidates: must be 0, .* got 2"),
        (["score.reliability_repeats=1"], r"score\.reliability_repeats: must lie in \[2, 1000\]"),
        (["score.bound=1.5"], r"score\.bound: must lie in \[-1, 1\]"),
        (["supernet.epochs=0"], r"supernet\.epochs: must lie in \[1, 1000000\]"),
        (["supernet.calibration_batches=-1"], r"supernet\.calibration_batches: must be at least 0"),
        (["evolution.method=luck"], r"evolution\.method: must be one of evolution, random"),
        (["evolution.fitness=m"], r"evolution\.fitness: must be one of supernet, n, e"),
        (["evolution.fitness=n"], r"evolution\.fitness: must be supernet unless accuracy alone"),
        (["evolution.iterations=0"], r"evolution\.iterations: must lie in \[1, 1000000\]"),
        (["evolution.parents=0"], r"evolution\.parents: must lie in \[1, 1000000\]"),
        (["evolution.attempts=-1"], r"evolution\.attempts: must lie in \[0, 1000000\]"),
        (["evolution.population=19"], r"evolution\.population: must be at least 20, .* got 19"),
        (["evolution.mutation_probability=1.1"], r"evolution\.mutation_probability: must lie in \[0, 1\]"),
        (["evolution.crossover_probability=-1"], r"evolution\.crossover_probability: must lie in \[0, 1\]"),
        (["evolution.tolerance=-1"], r"evolution\.tolerance: must lie in \[0, 100\]"),
        (["confirm.seeds=[1, 1]"], r"confirm\.seeds: must be different whole numbers"),
        (
            ["confirm.architectures=2"],
            r"confirm\.architectures: must be 0, for none, or lie in \[3, 1000000\]",
        ),
        (["confirm.epochs=-1"], r"confirm\.epochs: must lie in \[0, 1000000\]"),
        (["training=1"], r"training: must be a table, got 1"),
        (["training.network=1"], r"training\.network: must be a table, got 1"),
        (["training.sede=1"], r"training: has no key 'sede'; the keys are seed, "),
        (["training.optimizer.rate=1"], r"training\.optimizer: has no key 'rate'"),
        (["training.optimizer.lr=0"], r"training\.optimizer\.lr: must be positive"),
        (["training.network.backward=['1:0']"], r"training\.network\.backward: must be empty"),
        (["training.data.merge_validation=true"], r"training\.data\.merge_validation: must be false"),
        (["training.start=a.safetensors"], r"training\.start: must be empty"),
        (
            ["training.network.neuron=qrelu", "training.network.steps=1", "training.network.tau=1"],
            r"training\.network\.neuron: must be lif",
        ),
    ],
)
def test_mistakes_are_named(tmp_path: Path, settings: list[str], message: str) -> None:
    """The message says where, which rule, and what was found; unknown keys list the known ones."""
    with pytest.raises(ConfigError, match=message):
        read(tmp_path, settings)


def test_files_that_are_no_configuration(tmp_path: Path) -> None:
    """Missing, not TOML, or not text."""
    with pytest.raises(ConfigError, match=r"none\.toml: cannot be read as text"):
        SearchConfig.from_file(tmp_path / "none.toml")
    with pytest.raises(ConfigError, match=r"search\.toml: is not valid TOML"):
        read(tmp_path, [], "seed = ")
    path = tmp_path / "bytes.toml"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match=r"bytes\.toml: cannot be read as text"):
        SearchConfig.from_file(path)
