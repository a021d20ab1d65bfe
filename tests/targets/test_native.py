"""The native engine computes the bits of the reference interpreter, and those of Lava where values come late."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import assume, example, given, settings
from torch import Tensor

from snndeploy import ir
from snndeploy.errors import NetworkError, QuantizeError, TargetError
from snndeploy.export import lava as lowering
from snndeploy.ir.neurons import LARGEST_MEMBRANE, neurons
from snndeploy.ir.pipeline import pipelined_network
from snndeploy.targets import lava, native
from snndeploy.targets.native.synapses import Synapses, functions
from tests.export.networks import TOPOLOGIES, case, linear
from tests.strategies import Layer, Structure, realise, structures
from tests.targets.test_native_machine import too_fast

torch.set_num_threads(1)
LONGEST = 16  # time steps
OVERLAPPING = Structure(
    shape=(2, 6, 6),
    layers=(Layer("chain", 4), Layer("residual", 4), Layer("chain", 6, stride=2, pool=True)),
    hidden=(5,),
    backward=((2, 0, 1), (3, 1, 1)),
    steps=6,
    readout=3,
    frames=True,
    seed=1,
)


def on_grid(
    name: str, form: str = "exact", *, seed: int = 1, steps: int = 5
) -> tuple[ir.Network, npt.NDArray[np.float32]]:
    """A topology, drawn where it is built, with all its weights on a grid of 1/16, and input for it."""
    tested = case(TOPOLOGIES[name](), steps=steps, readout=3, seed=seed)
    exponents = {parameter: (4,) * len(array) for parameter, array in tested.network.weights.items()}
    numbers = ir.Exact(exponents) if form == "exact" else ir.Loihi(exponents)
    return replace(tested.network, format=numbers), tested.x


def with_steps(
    network: ir.Network, x: npt.NDArray[np.float32], steps: int
) -> tuple[ir.Network, npt.NDArray[np.float32]]:
    """The network with another number of time steps; frames start again where they end."""
    frames = (
        x if x.ndim == len(network.graph.shapes[network.graph.input]) + 1 else x[np.arange(steps) % len(x)]
    )
    return replace(network, steps=steps, readout=min(network.readout, steps)), frames


def with_leak(network: ir.Network, tau: float) -> ir.Network:
    """The network with another leak in every Lif."""
    ops = {
        name: replace(op, tau=tau) if isinstance(op, ir.Lif) else op for name, op in network.graph.ops.items()
    }
    return replace(network, graph=ir.Graph(ops, network.graph.edges))


def differing(found: ir.Trace, expected: ir.Trace) -> int:
    """Number of spikes, potentials and readout sums that are not the same."""
    assert list(found.spikes) == list(expected.spikes)
    assert set(found.potentials) == set(expected.potentials)
    pairs = [(found.spikes[name], spikes) for name, spikes in expected.spikes.items()]
    pairs += [(found.potentials[name], u) for name, u in expected.potentials.items()]
    pairs += [(found.readout_sum, expected.readout_sum), (found.logits, expected.logits)]
    assert all(a.shape == b.shape and a.dtype == b.dtype for a, b in pairs)
    return sum(int((a != b).sum()) for a, b in pairs)


def check(network: ir.Network, x: npt.NDArray[np.float32], *schedules: ir.Schedule) -> None:
    """Under each schedule, side by side and streamed, the engine does what the interpreter does."""
    assert ir.certify(network).holds
    expected = ir.run(network, x, potentials=True)
    with TemporaryDirectory() as folder:
        for schedule in schedules:
            bundle = lowering.export(network, Path(folder) / "bundle", x, schedule=schedule)
            for streamed in (False, True):
                found = native.simulate(bundle, potentials=True, streamed=streamed)
                assert differing(found.trace, expected) == 0, f"{schedule.name}, streamed: {streamed}"
                plain = native.simulate(bundle, streamed=streamed)
                assert differing(plain.trace, replace(expected, potentials={})) == 0


@settings(max_examples=12)
@given(structure=structures(most_layers=3))
@example(structure=OVERLAPPING)
@example(structure=replace(OVERLAPPING, frames=False, backward=((4, 0, 1), (3, 1, 2))))
def test_generated_networks(structure: Structure) -> None:
    """Lively networks in both formats, scheduled, slower, synchronous and, with longer delays, pipelined."""
    drawn = realise(structure)
    graph = drawn.network.graph
    smallest = ir.schedule(graph)
    slower = ir.schedule(graph, smallest.initiation_interval + 1)
    every = (smallest, slower, ir.schedule(graph, kind="synchronous"))
    check(drawn.network, drawn.x, *every)
    try:
        quantized = ir.quantize(drawn.original, drawn.x, format="loihi").network
    except QuantizeError:
        assume(False)
    check(quantized, drawn.x, *every)
    longer, x = with_steps(quantized, drawn.x, LONGEST)
    check(longer, x, smallest)
    pipelined = pipelined_network(longer)
    check(pipelined, x, ir.schedule(pipelined.graph, kind="pipelined"))


@pytest.mark.parametrize("tau", [0.5, 0.25, 2867 / 4096, 1.0, 0.0])
def test_leaks_of_the_loihi_format(tau: float) -> None:
    """Whatever the leak it is rounded as in the interpreter, which here is not what the exact format does."""
    network, x = with_steps(*on_grid("overlapping", "loihi"), LONGEST)
    network = with_leak(network, tau)
    check(network, x, ir.schedule(network.graph))
    if tau in (0.5, 0.25, 2867 / 4096):
        unrounded = ir.run(replace(network, format=ir.Float32()), x, potentials=True).potentials
        rounded = ir.run(network, x, potentials=True).potentials
        assert any((unrounded[name] != rounded[name]).any() for name in rounded)


def test_saturation() -> None:
    """A membrane potential stops at 2**23 - 1 units, where the neuron fires.

    input (512) -> fc -> lif -> last -> output
    """
    inputs = 512
    ops: dict[str, ir.Op] = {
        "input": ir.Input(shape=(inputs,)),
        "fc": ir.Linear(in_features=inputs, out_features=2),
        "lif": ir.Lif(),
        "last": linear(2, 3),
        "output": ir.Output(),
    }
    names = list(ops)
    graph = ir.Graph(ops, tuple(map(ir.Edge, names, names[1:])))
    network = ir.Network(
        graph=graph,
        weights={
            "fc.weight": np.full((2, inputs), 127 / 2**15),
            "last.weight": np.ones((3, 2)),
            "last.bias": np.zeros(3),
        },
        steps=3,
        input=ir.InputSpec(kind="frames", grid_bits=0),
        format=ir.Loihi({"fc.weight": (15, 15), "last.weight": (0, 0, 0), "last.bias": (0, 0, 0)}),
    )
    x = np.zeros((3, 2, inputs), np.float32)
    x[0, :, : inputs // 2 - 1] = 1  # just below the threshold
    x[1] = 1
    check(network, x, ir.schedule(graph))
    (unit,) = set(neurons(network)["lif"].unit.ravel())  # type: ignore[union-attr]  # in loihi there is one
    reached = ir.run(network, x, potentials=True).potentials["lif"]
    assert (reached[1] == LARGEST_MEMBRANE * unit).all()


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """Of a network with overlapping backward connections, with a few samples."""
    network, x = on_grid("overlapping")
    return lowering.export(network, tmp_path / "bundle", np.tile(x, (4, 1, 1, 1))[:10])


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("batch", [None, 1, 3, 10, 64])
def test_batches_and_threads_change_no_bit(bundle: Path, threads: int, batch: int | None) -> None:
    """All samples are there, once and in order, and PyTorch keeps its number of threads."""
    torch.set_num_threads(2)
    done: list[tuple[int, int]] = []
    found = native.simulate(
        bundle, threads=threads, batch=batch, progress=lambda *counts: done.append(counts)
    )
    assert torch.get_num_threads() == 2
    torch.set_num_threads(1)
    assert differing(found.trace, lava.read(bundle).expected) == 0
    assert done[-1] == (10, 10)
    assert [total for _, total in done] == [10] * len(done)
    assert found.machine_steps == lava.read(bundle).schedule.machine_steps_streamed(5, 10)


def test_samples_of_ones_own(bundle: Path) -> None:
    """Other samples than the bundle's, as one image for all steps or as one at each, and only the first."""
    network = lava.read(bundle).network
    x = on_grid("overlapping", seed=2)[1]
    expected = ir.run(network, x[:2])
    images = native.simulate(bundle, samples=x, count=2)
    frames = native.simulate(bundle, samples=np.broadcast_to(x, (5, *x.shape)), count=2)
    assert differing(images.trace, expected) == differing(frames.trace, expected) == 0


def test_an_image_enters_its_first_op_once(bundle: Path) -> None:
    """What only a static image enters is computed once per batch, and what spikes enter at every step."""
    network = lava.read(bundle).network
    graph = network.graph
    calls: list[str] = []

    def counting(name: str, function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        def call(x: Tensor) -> Tensor:
            calls.append(name)
            return function(x)

        return call

    counted = {name: counting(name, function) for name, function in functions(network).items()}
    for port in graph.ports:
        sources = ir.arrivals(graph, port)
        synapses = Synapses(graph, port, counted, static=True, batch=1)
        sent = {source: torch.ones(1, *graph.shapes[source]) for source, _ in sources}
        first = synapses.current([[sent[source]] for source, _ in sources])
        again = synapses.current([[sent[source]] for source, _ in sources])
        assert torch.equal(first, again)
    from_image = {edge.target for edge in graph.edges if edge.source == graph.input}
    before_lifs = {name for port in graph.ports for name in ir.upstream(graph, port)}
    assert from_image < before_lifs
    assert {name: calls.count(name) for name in before_lifs} == {
        name: 1 if name in from_image else 2 for name in before_lifs
    }


@pytest.mark.parametrize("name", ["back_over_one", "back_over_many", "two_into_one", "overlapping"])
def test_late_values_change_spikes(name: str, tmp_path: Path) -> None:
    """With an initiation interval one too small the engine does not compute what the network means."""
    network, x = on_grid(name)
    bundle = lowering.export(network, tmp_path / "bundle", x, schedule=too_fast(network.graph))
    assert differing(native.simulate(bundle).trace, lava.read(bundle).expected) > 0


@pytest.mark.lava
def test_late_values_come_as_late_as_in_lava(lava_interpreter: lava.Interpreter, tmp_path: Path) -> None:
    """With schedules that are too fast, and so with samples that meet, each bit is Lava's; also with all others."""
    bundles: list[Path] = []
    for name in ("back_over_one", "back_over_many", "two_into_one", "overlapping"):
        for form in ("exact", "loihi"):
            network, x = on_grid(name, form)
            every = (
                too_fast(network.graph),
                ir.schedule(network.graph),
                ir.schedule(network.graph, kind="synchronous"),
            )
            for schedule in every:
                path = tmp_path / f"{name} {form} {len(bundles)}"
                bundles.append(lowering.export(network, path, x, schedule=schedule))
    for path, simulated in zip(
        bundles, lava.simulate(bundles, potentials=True, interpreter=lava_interpreter), strict=True
    ):
        found = native.simulate(path, potentials=True)
        assert differing(found.trace, simulated.trace) == 0, path.name
        assert found.machine_steps == simulated.machine_steps


def test_stock_bundles_run_as_what_they_mean(tmp_path: Path) -> None:
    """A bundle of Lava's own processes holds the same network and schedule, and gives the same spikes."""
    network, x = on_grid("chain", "loihi")
    bundle = lowering.export(network, tmp_path / "bundle", x, form="stock")
    assert differing(native.simulate(bundle).trace, ir.run(network, x)) == 0


def test_mistakes(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Samples that do not fit or do not exist, and a Python without PyTorch, are named."""
    with pytest.raises(TargetError, match="samples to run must be 1 to 10"):
        native.simulate(bundle, count=11)
    with pytest.raises(NetworkError, match="must have shape"):
        native.simulate(bundle, samples=np.zeros((1, 1, 3, 3), np.float32))
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(TargetError, match="needs PyTorch"):
        native.simulate(bundle)


def test_errors_of_threads_are_raised(bundle: Path) -> None:
    """An error, here of who watches the progress, ends the run; PyTorch keeps its number of threads."""

    def fail(done: int, total: int) -> None:
        raise KeyboardInterrupt(f"{done} of {total}")

    torch.set_num_threads(2)
    with pytest.raises(KeyboardInterrupt, match="of 10"):
        native.simulate(bundle, batch=1, threads=3, progress=fail)
    assert torch.get_num_threads() == 2
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("native")]
    torch.set_num_threads(1)
