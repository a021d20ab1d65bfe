"""Step one of a search, shared by ranks."""

from __future__ import annotations

import json
import multiprocessing
from pathlib import Path

import torch

from snndeploy.train.distributed import World
from snndeploy.train.search.folder import CANDIDATES, SCORES
from snndeploy.train.search.scoring import CHUNK, read_scores
from snndeploy.train.search.search import Search
from snndeploy.train.search.space import label
from tests.train.search.searches import tiny

SETTINGS = (f"score.candidates={4 * CHUNK}", "score.batch=10")


def score_together(world: World, folder: Path) -> None:
    """What a rank does, in a folder of its own."""
    torch.set_num_threads(1)
    own = folder / f"rank{world.rank}"
    Search(tiny(*SETTINGS), own, own, 1, world, lambda *_: None).screening.score_together()


def test_the_first_rank_names_the_candidates(tmp_path: Path) -> None:
    """Another one that would draw others, and more of them, scores its share of those, and keeps nothing."""
    folders = [tmp_path / f"rank{rank}" for rank in range(2)]
    for folder in folders:
        folder.mkdir()
    labels = ["4:4", "3:1", "2:2+4:0"]
    (folders[0] / CANDIDATES).write_text(json.dumps(labels))
    context = multiprocessing.get_context("spawn")
    worlds = [World(rank=rank, size=2, rendezvous=f"file://{tmp_path / 'meeting'}") for rank in range(2)]
    ranks = [context.Process(target=score_together, args=(world, tmp_path)) for world in worlds]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join(60)
    codes = [rank.exitcode for rank in ranks]
    for rank in ranks:
        rank.kill()  # does nothing to one that has ended
    assert codes == [0, 0]
    assert {label(one) for one in read_scores(folders[0])} == set(labels)
    assert (folders[0] / SCORES).exists()
    assert list(folders[1].iterdir()) == []
