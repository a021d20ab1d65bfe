"""`snndeploy search`: looks for backward connections that pay, and says how far that can be trusted."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from snndeploy.cli.options import Seeds, json_option, set_option
from snndeploy.cli.train import out_option

if TYPE_CHECKING:
    from snndeploy.cli.output import Report
    from snndeploy.train.distributed import World
    from snndeploy.train.search.config import SearchConfig
    from snndeploy.train.search.screening import Tell


@click.command(epilog="Example: snndeploy search configs/search-recall.toml --out runs/search --workers 2")
@click.argument("config", type=click.Path(path_type=Path))
@out_option(required=True)
@set_option
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Processes that score, evaluate and train; what is found does not depend on them.",
)
@click.option("--resume", is_flag=True, help="Go on with the search in the run folder, or read its result.")
@click.option("--overwrite", is_flag=True, help="Replace the search in the run folder.")
@click.option(
    "--confirm-seeds",
    "fresh",
    type=Seeds(),
    help="Confirm what was found on these seeds, too (10:20 for 10 to 19), and change nothing else in the folder.",
)
@click.option(
    "--ablation",
    is_flag=True,
    help="Replace the parts of the search one by one, and compare; on a small budget: at most 200 candidates, 10 "
    "epochs of the supernet, 5 iterations and 3 seeds for each row.",
)
@click.option("--full-budget", is_flag=True, help="With --ablation: all that CONFIG says for each row.")
@json_option
def search(
    config: Path,
    out: Path,
    overrides: tuple[str, ...],
    workers: int,
    resume: bool,
    overwrite: bool,
    fresh: range | None,
    ablation: bool,
    full_budget: bool,
    as_json: bool,
) -> None:
    """Search for backward connections as CONFIG (a TOML file) says.

    Evolution, random search of the same budget and no backward connections are all evaluated; what is found is
    trained from scratch with several seeds and compared with no backward connections. The test set is used once,
    at the very end. Under torchrun the ranks share the scores; all else is done by the first one.

    The run folder gets search.json, figures, and how to train what is recommended from scratch, as it was
    confirmed: snndeploy train RUN/recommended.toml --out FOLDER. A warm start with the weights of the search is
    there, too, but nothing confirms that it pays: RUN/found.toml --from RUN/found.snn.safetensors.
    """
    from snndeploy.cli.output import emit_json, say
    from snndeploy.cli.searched import ablation_text, as_text, draw
    from snndeploy.train.distributed import World
    from snndeploy.train.search.ablation import ablate, small
    from snndeploy.train.search.config import SearchConfig
    from snndeploy.train.search.fresh import check_fresh, confirm_again

    if ablation and fresh is not None:
        raise click.UsageError("--confirm-seeds confirms what a search found, not the rows of an --ablation")
    if full_budget and not ablation:
        raise click.UsageError("--full-budget is that of an --ablation")
    resolved = SearchConfig.from_file(config, overrides)
    if fresh is not None:
        check_fresh(resolved, fresh)
    if ablation and not full_budget:
        resolved = small(resolved)
    world = World.from_environment()
    if not world.is_first:
        _help(resolved, out, world, workers, ablation=ablation)
        return
    options: dict[str, Any] = {"resume": resume, "overwrite": overwrite, "workers": workers}
    with _stages() as tell:
        if ablation:
            facts = {"run": str(out), **ablate(resolved, out, tell=tell, **options)}
        else:
            facts = {"run": str(out), **_search(resolved, out, world, tell, options)}
        if fresh is not None:
            facts["fresh_seeds"] = confirm_again(resolved, out, facts, fresh, workers=workers, tell=tell)
    if not ablation:
        figures = draw(facts, out)
        facts["files"] = [*facts["files"], *(path.name for path in figures)]
    if world.size > 1:
        say("the ranks shared the scores; everything else was done by the first one")
    if as_json:
        emit_json(facts)
    else:
        click.echo(ablation_text(facts) if ablation else as_text(facts))


def _search(
    config: SearchConfig, out: Path, world: World, tell: Tell, options: dict[str, Any]
) -> dict[str, Any]:
    from snndeploy.train.search.search import search as search_all

    found = search_all(config, out, world=world, tell=tell, **options)
    if found is None:
        raise AssertionError  # there is one on the first rank
    return found


def _help(config: SearchConfig, out: Path, world: World, workers: int, *, ablation: bool) -> None:
    """What a rank but the first does: its share of the scores, and nothing in an ablation."""
    from snndeploy.cli.output import say
    from snndeploy.train.search.search import search as search_all

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # as in `snndeploy.cli.ranks.follow`
        signal.signal(number, signal.SIG_DFL)
    if ablation:
        say(f"rank {world.rank} of {world.size}: nothing to do, as the first one does an ablation alone")
        return
    search_all(config, out, world=world, workers=workers)
    say(f"rank {world.rank} of {world.size}: its share of the scores is done")


@contextmanager
def _stages() -> Iterator[Tell]:
    """Shows the progress of one stage after the other."""
    from snndeploy.cli.output import progress

    current, report = "", None
    with ExitStack() as stack:

        def tell(stage: str, done: float, total: int, note: str = "") -> None:
            nonlocal current, report
            if stage != current or report is None:
                stack.pop_all().close()
                shown: Report = stack.enter_context(progress(stage, total))
                current, report = stage, shown
            report(done, note)

        yield tell
