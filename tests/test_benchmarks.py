"""What the benchmarks of training and of ONNX are judged by: orders, agreement, ratios, command lines."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from benchmarks import training_agreement
from benchmarks.measure import Times, orders
from benchmarks.onnx import parsed as parsed_inference
from benchmarks.onnx_contenders import BARE, CONTENDERS, EAGER, INTEGER, SCAN, SEQUENCE, STREAM
from benchmarks.onnx_measure import differences
from benchmarks.onnx_networks import Case as InferenceCase
from benchmarks.onnx_networks import exact_network
from benchmarks.onnx_profile import Share, profile, shares
from benchmarks.onnx_report import Report, markdown
from benchmarks.onnx_report import Section as InferenceSection
from benchmarks.training import Section, parsed
from benchmarks.training_agreement import Agreement, agreement, largest
from benchmarks.training_variants import CLASSES, Case
from snndeploy.backbones import backbone
from snndeploy.ir import run, save, with_backward
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


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> InferenceCase:
    """A small residual network with one backward connection, four samples.

    The BC leads from the last LIF to the first over a map of another size.
    """
    path = tmp_path_factory.mktemp("networks") / "tiny.safetensors"
    save(exact_network(with_backward(backbone("resnet6", (1, 8, 8), 3), 3, 0), steps=3), path)
    return InferenceCase(path, batch=4, threads=1)


def test_contenders_compute_the_same(tiny: InferenceCase) -> None:
    """All that give logits give those of the interpreter, bit for bit, in a call that is not the first, too."""
    slow = ("PyTorch compiled", "torch.onnx.export")  # to build; the benchmark itself compares them
    wanted = [k for k in CONTENDERS if not k.missing and not k.name.startswith(slow)]
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # those of other libraries
        calls = {contender.name: contender.make(tiny) for contender in wanted}
        for call in calls.values():
            call()
        found = differences(tiny, calls)
    assert {EAGER, SEQUENCE, SCAN, INTEGER, STREAM, BARE} <= found.keys()
    assert found == dict.fromkeys(found, 0.0)
    assert not any(name.startswith("floor") for name in found)


def test_a_contender_that_computes_something_else(tiny: InferenceCase) -> None:
    """Shows, and one that gives no numbers, too."""
    right = run(tiny.network, tiny.images).logits
    found = differences(tiny, {"wrong": lambda: right + 0.25, "broken": lambda: right * np.nan})
    assert found["wrong"] == 0.25
    assert math.isnan(found["broken"])


def test_the_profile_of_the_tiny_network(tiny: InferenceCase) -> None:
    """Every type of node that computes is there, with its time."""
    found = profile(tiny, "float32", 2)
    assert {"Conv", "Greater", "Mul"} <= found.keys()
    assert all(share.nodes > 0 and share.milliseconds > 0 for share in found.values())
    assert {"MatMulInteger"} <= profile(tiny, "integer", 1).keys()


def test_shares_are_of_the_shortest_run() -> None:
    """Each node counts once, whatever else the profiler tells."""
    events = [
        {"cat": "Node", "name": f"{node}_kernel_time", "dur": dur, "args": {"op_name": kind}}
        for node, kind, dur in (
            ("a", "Conv", 3000),
            ("b", "Conv", 500),
            ("a", "Conv", 1000),
            ("c", "Add", 9000),
        )
    ]
    events += [{"cat": "Node", "name": "a_fence_before", "dur": 7, "args": {"op_name": "Conv"}}]
    events += [{"cat": "Session", "name": "model_run", "dur": 7}]
    assert shares(events) == {"Add": Share(1, 9.0), "Conv": Share(2, 1.5)}


def test_a_page_of_inference() -> None:
    """Aims are judged at one sample at a time by the shortest times; what was not measured is left out."""

    def taken(*seconds: float) -> Times:
        return Times(1.0, [9.0] * len(seconds), list(seconds))

    times = {EAGER: taken(0.1, 0.3), SEQUENCE: taken(0.5, 0.05), SCAN: taken(0.06, 0.06)}
    one = InferenceSection("no BC", 1, 1, False, times, {SCAN: 0.5}, {SCAN: 3 * 2**20})
    about = {
        "date": "today", "device": "a CPU", "flags": ["avx2"], "cores": 2, "load": None, "versions": {},
        "shape": "3x32x32", "steps": 4, "exact": False,
    }  # fmt: skip
    many = InferenceSection("no BC", 16, 1, True, times)
    page = markdown(Report(about, {"a peer": ["its module"]}, [one, many]))
    assert f"| {SEQUENCE} / {EAGER} | no BC | 1 | 0.500 | 0.65 | yes |" in page
    assert f"| {SCAN} / {SEQUENCE} | no BC | 1 | 1.200 | 1.10 | **no** |" in page
    assert page.count("| yes |") + page.count("| **no** |") == 2
    assert INTEGER not in page
    assert "Not installed, so left out: a peer (needs its module)." in page
    assert f"| {SCAN} | 60.00 | 60.00 | 0.600 | 1.200 | 3 | 1.00 |" in page
    assert f"| {SCAN} | 9000.00 | 9000.00 | 1.000 | 1.000 |  | 1.00 |" in page
    assert f"Logits differ from the reference interpreter's: {SCAN} by 5.0e-01." in page


def test_what_inference_is_measured_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """One sample and several, one thread and all cores; on a GPU larger batches and no threads."""
    monkeypatch.setattr("benchmarks.onnx.cores", lambda: 3)
    cpu, cuda = parsed_inference([]), parsed_inference(["--cuda"])
    assert (cpu.batches, cpu.threads, cpu.networks) == ([1, 16], [1, 3], ["no BC", "short BC", "long BC"])
    assert (cuda.batches, cuda.threads) == ([1, 16, 256], [1])
    assert parsed_inference(["--batches", "2", "--threads", "5"]).threads == [5]
