"""What the benchmark of training is judged by: its orders, its checks of the peers, its command line."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
from torch import Tensor, nn

from benchmarks import training_agreement
from benchmarks.training import Section, parsed
from benchmarks.training_agreement import Agreement, agreement, largest
from benchmarks.training_measure import Times, orders
from benchmarks.training_variants import CLASSES, Case
from snndeploy.nn import SpikingNetwork


class Broken(nn.Module):
    """As many parameters as another network, and answers that are no numbers."""

    def __init__(self, source: nn.Module) -> None:
        super().__init__()
        self.held = nn.ParameterList(parameter.detach().clone() for parameter in source.parameters())

    def forward(self, x: Tensor) -> Tensor:
        """The logits of each step."""
        logits: Tensor = self.held[0].sum() + x.new_full((*x.shape[:2], CLASSES), math.nan)
        return logits


def test_every_round_has_an_order_of_its_own() -> None:
    """All names in each, after ever other ones, and the same orders in every run."""
    names = ["a", "b", "c", "d", "e"]
    found = orders(names, 40)
    assert found == orders(names, 40)
    assert all(sorted(order) == names for order in found)
    before_c = {order[order.index("c") - 1] for order in found if order[0] != "c"}
    assert before_c == {"a", "b", "d", "e"}


def test_a_peer_without_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is refused like one with other numbers."""

    def peer(_case: Case, _library: str, source: SpikingNetwork) -> tuple[nn.Module, Callable[[], None]]:
        return Broken(source), lambda: None

    monkeypatch.setattr(training_agreement, "peer_network", peer)
    with pytest.raises(SystemExit, match="logits differ from ours by nan"):
        agreement(Case("resnet8", 8), "a library")


def test_gradients_that_are_no_numbers() -> None:
    """They are not ours, wherever they stand."""
    assert math.isnan(largest([0.0, math.nan, 1.0]))
    assert largest([0.0, 1.0]) == 1.0
    assert Agreement(0.0, 1e-12).has_our_gradient
    assert not Agreement(0.0, math.nan).has_our_gradient
    assert not Agreement(0.0, 1e-3).has_our_gradient


def test_the_fastest_without_some() -> None:
    """A name counts with its layout, too."""
    taken = {name: Times(0.0, [t], [t]) for name, t in (("snnTorch, channels last", 1.0), ("snnTorch", 2.0))}
    section = Section(Case("resnet8", 8), 1, {**taken, "SpikingJelly multi-step": Times(0.0, [3.0], [3.0])})
    assert section.fastest("peer") == "snnTorch, channels last"
    assert section.fastest("peer", without=["snnTorch"]) == "SpikingJelly multi-step"


@pytest.mark.parametrize("option", ["--batch", "--threads", "--rounds"])
def test_nothing_is_no_number(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Of images, threads or rounds."""
    assert getattr(parsed([option, "2"]), option[2:]) in (2, [2])
    with pytest.raises(SystemExit):
        parsed([option, "0"])
    assert f"argument {option}: must be at least 1" in capsys.readouterr().err


def test_cores_where_affinity_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    """There all of the machine count."""
    monkeypatch.delattr("os.sched_getaffinity", raising=False)
    monkeypatch.setattr("os.cpu_count", lambda: 3)
    assert parsed([]).threads == [1, 3]
