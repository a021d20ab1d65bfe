"""A search confirmed on seeds that it has not used."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from snndeploy.errors import ConfigError
from snndeploy.train.search.fresh import confirm_again
from tests.train.search.searches import Stop, tiny

SEEDS = range(5, 7)


def found(recommended: str) -> dict[str, Any]:
    """What matters of a search.json."""
    return {"recommendation": {"architecture": recommended}, "finalists": ["4:4", "3:3"]}


def test_stopped_at_every_training(tmp_path: Path) -> None:
    """It goes on where it stood, with the same result; the first finalist stands in for no recommendation."""

    def confirm(run: Path, tell: Any, recommended: str = "none") -> dict[str, Any]:
        return confirm_again(tiny(), run, found(recommended), SEEDS, workers=1, tell=tell)

    def stop(*_: object) -> None:
        raise Stop

    unbroken = confirm(tmp_path / "one", lambda *_: None)
    assert (unbroken["architecture"], unbroken["seeds"]) == ("4:4", [5, 6])
    assert set(unbroken["networks"]) == {"4:4", "none"}
    for _ in range(8):  # trainings and tests of two architectures with two seeds
        with pytest.raises(Stop):
            confirm(tmp_path / "two", stop)
        assert not list((tmp_path / "two").rglob("seeds5-6.json"))
    assert confirm(tmp_path / "two", stop) == unbroken
    assert json.loads((tmp_path / "two" / "confirm" / "seeds5-6.json").read_text()) == json.loads(
        json.dumps(unbroken)
    )
    assert confirm(tmp_path / "one", lambda *_: None, "4:4") == unbroken


def test_only_fresh_seeds(tmp_path: Path) -> None:
    """Those of the search itself and of its confirmation are not; nothing is written."""
    for seeds in (range(1, 3), range(5), range(0), [7, 9]):
        with pytest.raises(ConfigError, match="fresh seeds"):
            confirm_again(tiny(), tmp_path, found("none"), seeds, workers=1, tell=lambda *_: None)
    assert list(tmp_path.iterdir()) == []
