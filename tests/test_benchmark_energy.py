"""What benchmarks/energy.py prints."""

from __future__ import annotations

import pytest

from benchmarks.energy import (
    NAMES,
    PRICED,
    Counting,
    counting_table,
    draws_table,
    parsed,
    psi_table,
    rebuilt,
)
from snndeploy.backbones import backbone
from snndeploy.ir.fanout import psi_total


def test_rows_of_psi() -> None:
    """Neurons and exact synapses of resnet18, on small and large images."""
    small, large = psi_table(1)[2:]
    assert small.startswith("| 32x32 | 557 056 | 480 428 032 | ")
    assert large.startswith("| 224x224 | 27 295 744 | 26 601 373 696 | ")


def test_every_round_works_psi_out_anew() -> None:
    """The graph that is timed has kept nothing, and is the same."""
    graph = backbone("resnet8", (1, 8, 8), 4)
    psi_total(graph)
    fresh = rebuilt(graph)
    assert fresh == graph
    assert "incoming" in vars(graph)
    assert vars(fresh)["shapes"] is not vars(graph)["shapes"]


def test_shares_are_those_within_a_batch() -> None:
    """Median and range of counting over inference, batch by batch, not of the sums."""
    found = Counting([2.0, 4.0, 1.0], {NAMES[0]: [0.2, 0.2, 0.2], NAMES[1]: [1.0, 1.0, 1.0]})
    head, _, inference, plain, full = counting_table(found, 1000)
    assert head.startswith("| 1 000 samples of resnet18")
    assert inference == "| inference (`nn.run`) | 7.0 | |"
    assert plain == "| counts | 0.60 | 10.0 (5.0 to 20.0) % |"
    assert full.endswith("| 3.00 | 50.0 (25.0 to 100.0) % |")


def test_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    """A thousand samples unless told otherwise, and at least one."""
    assert (parsed([]).samples, parsed(["--samples", "3"]).samples) == (1000, 3)
    with pytest.raises(SystemExit):
        parsed(["--samples", "0"])
    assert "must be at least 1" in capsys.readouterr().err


def test_rows_of_draws() -> None:
    """One row for each kind of target."""
    assert [row.split("|")[1].strip() for row in draws_table(1)[2:]] == list(PRICED)
