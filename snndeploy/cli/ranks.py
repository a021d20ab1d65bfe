"""Several processes under torchrun that run one command together: the first one, rank 0, speaks for all."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from snndeploy.train.config import Config
    from snndeploy.train.distributed import World

_PATIENCE_SECONDS = 10


def follow(config: Config, folder: Path, world: World, *, resume: bool) -> None:
    """Helps the first rank to train a network; leaves everything that is written and printed to it.

    Arguments and errors are those of `snndeploy.train.loop.fit`.
    """
    from snndeploy.cli.runs import read_finished
    from snndeploy.train.loop import fit

    # Nothing here needs to be tidied up, and a handler of ours would not be called while waiting for a rank
    # that is gone.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    if not (resume and read_finished(config, folder) is not None):
        fit(config, folder, resume=resume, world=world)


def let_first_speak() -> None:
    """Waits before an error is printed, unless this is the first rank.

    What is wrong is mostly wrong for all: then torchrun ends this process as soon as the first one has said so
    and ended. If it is wrong here alone, it is said here, by one rank after the other.
    """
    rank = os.environ.get("RANK", "0")
    if "WORLD_SIZE" in os.environ and rank.isdecimal() and int(rank):
        time.sleep(_PATIENCE_SECONDS + min(int(rank), 60))
