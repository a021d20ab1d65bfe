"""The command line: the only place that joins the parts.

Modules here import click alone at the top; everything heavy is imported inside the commands, so that
`snndeploy --help` answers at once.
"""

from __future__ import annotations

import signal
import sys
from typing import Any

import click

from snndeploy import __version__
from snndeploy.cli.demo import demo
from snndeploy.cli.doctor import doctor
from snndeploy.cli.energy import energy
from snndeploy.cli.export import export
from snndeploy.cli.inspect import inspect
from snndeploy.cli.quantize import quantize
from snndeploy.cli.ranks import let_first_speak
from snndeploy.cli.resources import resources
from snndeploy.cli.schedule import schedule
from snndeploy.cli.search import search
from snndeploy.cli.simulate import simulate
from snndeploy.cli.targets import targets
from snndeploy.cli.tradeoff import tradeoff
from snndeploy.cli.train import train
from snndeploy.cli.verify import verify
from snndeploy.errors import SnnDeployError

EXIT_BAD_INPUT = 2
_INTERRUPTED = 128 + signal.SIGINT


class _BadInput(click.ClickException):
    """A user's mistake: one line, exit code 2, no traceback."""

    exit_code = EXIT_BAD_INPUT


class _Group(click.Group):
    """A group whose commands may raise SnnDeployError."""

    def invoke(self, ctx: click.Context) -> Any:
        for number in (signal.SIGTERM, signal.SIGHUP):  # so that what is temporary is cleaned up
            signal.signal(number, _leave)
        try:
            return super().invoke(ctx)
        except click.UsageError:
            let_first_speak()
            raise
        except SnnDeployError as error:
            let_first_speak()
            raise _BadInput(str(error)) from None
        except KeyboardInterrupt:
            click.echo("interrupted", err=True)
            return ctx.exit(_INTERRUPTED)
        except MemoryError:
            raise _BadInput(
                "this needs more memory than there is; use fewer samples or a smaller network"
            ) from None
        except RecursionError:
            raise _BadInput("the input is nested too deeply") from None
        except BrokenPipeError:  # the reader of our output went away, as `head` does
            sys.stderr.close()
            return ctx.exit(0)
        except OSError as error:
            raise _BadInput(f"{error.filename or 'a file'}: {error.strerror or error}") from None


def _leave(number: int, _: object) -> None:
    """Ends as an interrupted program does, with everything on the way tidied up."""
    sys.exit(128 + number)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="snndeploy")
def main() -> None:
    """Spiking neural networks from training to stateful ONNX, Lava and an energy estimate."""


for _command in (
    demo,
    train,
    search,
    tradeoff,
    quantize,
    export,
    simulate,
    verify,
    energy,
    targets,
    inspect,
    schedule,
    resources,
    doctor,
):
    main.add_command(_command)
