"""A whole search under an energy limit, which is known of an architecture only after it was evaluated."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.train.search.searches import tiny, whole

SHORT = ("confirm.seeds=[]", "confirm.architectures=0", "score.reliability_candidates=0")


def energies_pj(found: dict[str, Any]) -> dict[str, float]:
    """Of everything evaluated."""
    return {row["architecture"]: row["estimated_energy_pj"] for row in found["evaluated"]}


def test_what_was_found_breaks_the_limit(tmp_path: Path) -> None:
    """With a limit just below what it takes, another one is found that keeps it, of whatever is evaluated then."""
    free = whole(tiny(*SHORT), tmp_path / "free")
    (best,) = free["finalists"]
    limit_pj = 0.999 * energies_pj(free)[best]
    settings = ("objective=limits", f"space.limits.energy_pj={limit_pj}")
    limited = whole(tiny(*SHORT, *settings), tmp_path / "limited")
    assert limited["first_population"] == free["first_population"]
    taken = energies_pj(limited)
    assert taken["none"] <= limit_pj
    assert all(taken[one] <= limit_pj for one in limited["found"])
    assert best not in [*limited["found"], *limited["random_found"]]
    allowed = [row for row in limited["evaluated"] if row["estimated_energy_pj"] <= limit_pj]
    evolved = [
        row for row in allowed if row["evolution_iteration"] is not None or row["architecture"] == "none"
    ]
    (found,) = limited["found"]
    (row,) = [row for row in evolved if row["architecture"] == found]
    assert row["accuracy"] == max(row["accuracy"] for row in evolved)
    assert {one for one in limited["pareto_front"] if taken[one] > limit_pj} == set()
