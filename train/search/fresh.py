"""A finished search confirmed once more, on seeds that nothing was chosen with.

What the search found is fixed by then: neither it nor anything else in the folder changes, and each set of seeds
leaves a file of its own. Fresh seeds mean other initial weights and other batches; the split of the data is the
same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from snndeploy.errors import ConfigError
from snndeploy.train.pool import using_threads
from snndeploy.train.search.config import SearchConfig
from snndeploy.train.search.confirm import NOTE, Measured, Part, Trial, compare_trained, measure_all
from snndeploy.train.search.folder import CONFIRM, write_json
from snndeploy.train.search.screening import Tell
from snndeploy.train.search.space import Architecture, label, parse

_PARTS: tuple[Part, Part] = ("validation", "test")


def confirm_again(
    config: SearchConfig,
    run: Path,
    found: Mapping[str, Any],
    seeds: Sequence[int],
    *,
    workers: int,
    tell: Tell,
) -> dict[str, Any]:
    """Trains one architecture and no backward connections with more seeds, and compares them.

    The architecture is the recommended one; if that has no connections, the first finalist. What is trained
    already is not trained again, and what was stopped goes on.

    Args:
        config: Of the search.
        run: Its folder; the result goes to confirm/seeds<first>-<last>.json in it.
        found: What its search.json holds.
        seeds: In order, without gaps, none of them used by the search.
        workers: Processes on this machine; the result does not depend on them.
        tell: Called after each training.

    Raises:
        ConfigError: A seed is not fresh, or a training fails.
        FileFormatError: A file is damaged or cannot be written.
    """
    check_fresh(config, seeds)
    one = parse(found["recommendation"]["architecture"]) or parse(found["finalists"][0])
    trials = [Trial(architecture, seed) for seed in seeds for architecture in (one, ())]
    with using_threads(config.training.threads):
        trained, tested = (_measure(config, trials, run, part, workers, tell) for part in _PARTS)
    result = {
        "architecture": label(one),
        "seeds": list(seeds),
        "note": NOTE,
        "networks": {label(each): _networks(each, seeds, trained, tested) for each in (one, ())},
        "comparison": {
            part: asdict(compare_trained(one, seeds, measured))
            for part, measured in zip(_PARTS, (trained, tested), strict=True)
        },
    }
    write_json(run / CONFIRM / f"seeds{seeds[0]}-{seeds[-1]}.json", result)
    return result


def check_fresh(config: SearchConfig, seeds: Sequence[int]) -> None:
    """Raises what is wrong with seeds that are to be fresh.

    Raises:
        ConfigError: There are none, there are gaps, or the search uses one of them.
    """
    if not seeds or list(seeds) != list(range(seeds[0], seeds[0] + len(seeds))):
        raise ConfigError("fresh seeds", "must be at least one, in order and without gaps", got=seeds)
    used = sorted({*seeds} & {config.seed, *config.confirm.seeds})
    if used:
        raise ConfigError(
            "fresh seeds", "must be others than those of the search", got=used, remedy="choose larger ones"
        )


def _measure(
    config: SearchConfig, trials: Sequence[Trial], run: Path, part: Part, workers: int, tell: Tell
) -> dict[Trial, Measured]:
    done = 0

    def on_trial(trial: Trial) -> None:
        nonlocal done
        done += 1
        stage = f"fresh seeds, {part}"
        tell(stage, done, len(trials), f"{label(trial.architecture)}, seed {trial.seed}")

    return measure_all(config, trials, run, part, workers=workers, on_trial=on_trial)


def _networks(
    one: Architecture,
    seeds: Sequence[int],
    trained: Mapping[Trial, Measured],
    tested: Mapping[Trial, Measured],
) -> dict[str, list[dict[str, Any]]]:
    return {
        part: [asdict(measured[Trial(one, seed)]) for seed in seeds]
        for part, measured in zip(_PARTS, (trained, tested), strict=True)
    }
