"""The interpreter against the contract spelled out neuron by neuron."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings

from snndeploy.errors import NetworkError
from snndeploy.ir import (
    AvgPool2d,
    BatchNorm,
    Conv2d,
    Dropout,
    Flatten,
    Graph,
    Input,
    InputSpec,
    Lif,
    Linear,
    Network,
    Op,
    Output,
    Upsample,
    as_steps,
    certify,
    run,
    with_backward,
)
from tests.ir.graphs import classifier, conv, direct, linear, random_input, random_network, wired
from tests.strategies import Case, cases

Wide = npt.NDArray[np.float64]


@dataclass
class Slow:
    """What the contract says of one sample: spikes and potentials by name and step, and the readout sum."""

    spikes: dict[str, list[Wide]] = field(default_factory=dict)
    potentials: dict[str, list[Wide]] = field(default_factory=dict)
    readout_sum: Wide | None = None


def contract(network: Network, frames: Wide) -> Slow:
    """Runs one sample, frames (time, *shape), by the formulas of the contract, one neuron at a time."""
    graph = network.graph
    weights = {name: array.astype(np.float64) for name, array in network.weights.items()}
    done = Slow({n: [] for n in graph.ports}, {n: [] for n in graph.ports}, None)
    rest = {name: np.zeros(graph.shapes[name]) for name in graph.ports}
    past: dict[str, list[Wide]] = {name: [] for name in graph.ops}
    waiting = list(graph.ops)
    order: list[str] = []
    while waiting:  # the next op all of whose sources of the same step are known
        ready = next(
            n for n in waiting if all(e.source in order for e in graph.edges if e.target == n and not e.delay)
        )
        order.append(ready)
        waiting.remove(ready)
    for t in range(network.steps):
        for name in order:
            op = graph.ops[name]
            terms = [
                past[e.source][t - e.delay] if t >= e.delay else np.zeros(graph.shapes[e.source])
                for e in graph.edges
                if e.target == name
            ]
            x = frames[t] if isinstance(op, Input) else sum(terms[1:], start=terms[0])
            if isinstance(op, Lif):
                past[name].append(fire(op, x, rest[name], name, done))
            else:
                past[name].append(value(op, x, {k: weights.get(f"{name}.{k}") for k in PARAMETERS}))
        if t >= network.steps - network.readout:
            read = past[graph.output][t]
            done.readout_sum = read if done.readout_sum is None else done.readout_sum + read
    return done


PARAMETERS = ("weight", "bias", "running_mean", "running_var")


def fire(op: Lif, x: Wide, rest: Wide, name: str, done: Slow) -> Wide:
    """U = tau * v + x; s = 1 if u > threshold else 0; v = u * (1 - s), neuron by neuron."""
    potential, spikes = np.zeros(x.shape), np.zeros(x.shape)
    for index in np.ndindex(x.shape):
        u = op.tau * rest[index] + x[index]
        s = 1.0 if u > op.threshold else 0.0
        rest[index] = u * (1 - s)
        potential[index], spikes[index] = u, s
    done.spikes[name].append(spikes)
    done.potentials[name].append(potential)
    return spikes


def value(op: Op, x: Wide, own: dict[str, Any]) -> Wide:
    """The output of a stateless op, one output value at a time."""
    if isinstance(op, Conv2d):
        rows, columns = (
            (x.shape[a + 1] + 2 * op.padding[a] - op.kernel[a]) // op.stride[a] + 1 for a in (0, 1)
        )
        out = np.zeros((op.out_channels, rows, columns))
        per_group_in, per_group_out = op.in_channels // op.groups, op.out_channels // op.groups
        for o, i, j in np.ndindex(out.shape):
            channels = slice(o // per_group_out * per_group_in, (o // per_group_out + 1) * per_group_in)
            for a, b in np.ndindex(op.kernel):
                row, column = i * op.stride[0] + a - op.padding[0], j * op.stride[1] + b - op.padding[1]
                if 0 <= row < x.shape[1] and 0 <= column < x.shape[2]:
                    out[o, i, j] += np.dot(own["weight"][o, :, a, b], x[channels, row, column])
            out[o, i, j] += own["bias"][o] if op.bias else 0.0
        return out
    if isinstance(op, Linear):
        return np.array(
            [np.dot(own["weight"][o], x) + (own["bias"][o] if op.bias else 0) for o in range(op.out_features)]
        )
    if isinstance(op, BatchNorm):
        out = np.zeros(x.shape)
        for index in np.ndindex(x.shape):
            c = index[0]
            spread = (own["running_var"][c] + op.epsilon) ** 0.5
            out[index] = (x[index] - own["running_mean"][c]) / spread * own["weight"][c] + own["bias"][c]
        return out
    if isinstance(op, AvgPool2d):
        rows, columns = ((x.shape[a + 1] - op.kernel[a]) // op.stride[a] + 1 for a in (0, 1))
        out = np.zeros((x.shape[0], rows, columns))
        for c, i, j in np.ndindex(out.shape):
            top, left = i * op.stride[0], j * op.stride[1]
            out[c, i, j] = x[c, top : top + op.kernel[0], left : left + op.kernel[1]].mean()
        return out
    if isinstance(op, Upsample):
        source = x.reshape(*x.shape, *(1,) * (3 - x.ndim))
        out = np.zeros((x.shape[0], *op.size))
        for c, i, j in np.ndindex(out.shape):
            out[c, i, j] = source[c, i * source.shape[1] // op.size[0], j * source.shape[2] // op.size[1]]
        return out
    return x.ravel() if isinstance(op, Flatten) else x


def assert_follows_contract(
    network: Network, x: npt.NDArray[Any], *, exactly: bool, samples: int = 2
) -> None:
    """Compares the interpreter with the contract on the first samples."""
    steps = as_steps(network, x)[:, :samples]
    trace = run(network, steps, potentials=True, dtype=np.float32 if exactly else np.float64)
    tolerance = 0.0 if exactly else 1e-9

    def assert_close(found: npt.NDArray[Any], expected: Any) -> None:
        np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)

    for sample in range(steps.shape[1]):
        expected = contract(network, steps[:, sample].astype(np.float64))
        for name in network.graph.ports:
            assert_close(trace.potentials[name][:, sample], expected.potentials[name])
            assert (trace.spikes[name][:, sample] == expected.spikes[name]).all()
        assert expected.readout_sum is not None
        assert_close(trace.readout_sum[sample], expected.readout_sum)
        divided = expected.readout_sum / network.readout
        np.testing.assert_allclose(trace.logits[sample], divided, rtol=1e-6 if exactly else 1e-9, atol=1e-12)


@settings(max_examples=50)
@given(cases(most_layers=2))
def test_exact_networks_follow_the_contract_bit_for_bit(case: Case) -> None:
    """Random lively networks: residual adds, backward connections, pools, groups, images and frames."""
    assert certify(case.network).holds
    assert_follows_contract(case.network, case.x, exactly=True)


@settings(max_examples=25)
@given(cases(most_layers=2))
def test_float_networks_follow_the_contract(case: Case) -> None:
    """The same networks in single precision weights, computed in double precision, with another leak."""
    graph = case.original.graph
    ops = {n: Lif(tau=0.3, threshold=0.9) if isinstance(op, Lif) else op for n, op in graph.ops.items()}
    network = replace(case.original, graph=Graph(ops, graph.edges))
    assert_follows_contract(network, case.x, exactly=False, samples=1)
    assert any(s.any() for s in run(network, case.x).spikes.values())


def mixed() -> Graph:
    """Every op, asymmetric windows, groups, an upsampling to odd sizes and one to a smaller size.

    input (2 x 7 x 6) -> norm -> conv -> lif1 -> pool -> lif2 -> up -> lif3 -> flatten -> drop -> fc -> output
    with lif1 -(2)-> down -> lif2, lif3 -(1)-> lif3, input -(1)-> conv and lif2 -> lif2 twice, 3 steps later
    """
    ops: dict[str, Op] = {
        "input": Input(shape=(2, 7, 6)),
        "norm": BatchNorm(channels=2),
        "conv": Conv2d(
            in_channels=2, out_channels=4, kernel=(3, 2), stride=(2, 1), padding=(1, 0), groups=2, bias=True
        ),
        "lif1": Lif(),
        "down": Upsample(size=(2, 2)),
        "pool": AvgPool2d(kernel=(2, 3), stride=(2, 2)),
        "lif2": Lif(threshold=0.25),
        "up": Upsample(size=(3, 5)),
        "lif3": Lif(threshold=0.5),
        "flatten": Flatten(),
        "drop": Dropout(),
        "fc": linear(60, 3, bias=True),
        "output": Output(),
    }
    main = "input norm conv lif1 pool lif2 up lif3 flatten drop fc output"
    extra = ("lif1 ~2 down lif2", "lif3 ~1 lif3", "input ~1 conv", "lif2 ~3 lif2", "lif2 ~3 lif2")
    return wired(ops, main, *extra)


@pytest.mark.parametrize("kind", ["image", "frames"])
@pytest.mark.parametrize("tau", [0.0, 0.3, 0.5, 1.0])
def test_every_op_and_leak_follows_the_contract(tau: float, kind: str) -> None:
    """No leak, no memory and anything between, on a graph with each op, for images and frames."""
    graph = mixed()
    ops = {n: replace(op, tau=tau) if isinstance(op, Lif) else op for n, op in graph.ops.items()}
    spec = InputSpec(kind="frames" if kind == "frames" else "image")
    network = random_network(Graph(ops, graph.edges), steps=6, readout=2, input=spec)
    x = random_input(network)
    rates = {name: s.mean() for name, s in run(network, x).spikes.items()}
    assert all(0.02 < rate < 0.98 for rate in rates.values()), rates
    assert_follows_contract(network, x, exactly=False)


def neuron(tau: float = 0.5, threshold: float = 1.0, **settings: Any) -> Network:
    """One neuron, no weights: in (1) -> a -> out."""
    ops: dict[str, Op] = {"in": Input(shape=(1,)), "a": Lif(tau=tau, threshold=threshold), "out": Output()}
    spec = InputSpec(kind="frames", low=-100, high=100)
    return Network(graph=wired(ops, "in a out"), weights={}, input=spec, **settings)


def of_one_neuron(network: Network, currents: list[float]) -> tuple[list[float], list[int]]:
    """Potentials and spikes of the neuron for one current per step."""
    trace = run(network, np.reshape(currents, (-1, 1, 1)), potentials=True)
    return trace.potentials["a"].ravel().tolist(), trace.spikes["a"].ravel().astype(int).tolist()


def test_a_neuron_at_its_threshold_does_not_fire() -> None:
    """Strictly greater: u = 1 keeps its charge, and half of it is there at the next step."""
    assert of_one_neuron(neuron(steps=4), [1.0, 0.5, 0.5, 1.0]) == ([1.0, 1.0, 1.0, 1.5], [0, 0, 0, 1])
    above = float(np.nextafter(np.float32(1), np.float32(2)))
    assert of_one_neuron(neuron(steps=2), [above, 1.0]) == ([above, 1.0], [1, 0])


def test_a_spike_takes_all_charge() -> None:
    """The reset is to zero, however far the potential was above the threshold."""
    assert of_one_neuron(neuron(steps=3), [90.0, 0.75, 0.75]) == ([90.0, 0.75, 1.125], [1, 0, 1])


def test_negative_charge_leaks_as_well() -> None:
    """Nothing clips the potential from below."""
    assert of_one_neuron(neuron(steps=3), [-4.0, 0.0, 3.0]) == ([-4.0, -2.0, 2.0], [0, 0, 1])


def test_without_leak_and_without_memory() -> None:
    """With tau = 1 all charge is kept, with tau = 0 none."""
    assert of_one_neuron(neuron(1.0, steps=4), [0.5] * 4) == ([0.5, 1.0, 1.5, 0.5], [0, 0, 1, 0])
    assert of_one_neuron(neuron(0.0, steps=3), [0.9, 0.9, 1.1]) == (
        [float(np.float32(0.9))] * 2 + [float(np.float32(1.1))],
        [0, 0, 1],
    )


def test_delayed_spikes_are_zero_at_first_while_biases_act_at_once() -> None:
    """Graph: in -> a -> b -> out, a -(2)-> back -> b, weight 4 and bias 0.25: at t = 0, 1 only the bias arrives."""
    ops: dict[str, Op] = {
        "in": Input(shape=(1,)),
        "a": Lif(),
        "back": linear(1, 1, bias=True),
        "b": Lif(tau=0.0, threshold=100.0),
        "out": Output(),
    }
    graph = wired(ops, "in a b out", "a ~2 back b")
    weights = {"back.weight": np.full((1, 1), 4.0), "back.bias": np.array([0.25])}
    network = Network(graph=graph, weights=weights, steps=4, input=InputSpec(high=2.0))
    trace = run(network, np.array([[2.0]]), potentials=True)
    assert trace.spikes["a"].all()
    assert trace.potentials["b"].ravel().tolist() == [1.25, 1.25, 5.25, 5.25]


@pytest.mark.parametrize("readout", [1, 2, 3, 4])
def test_logits_are_the_mean_over_the_window(readout: int) -> None:
    """The last steps of four, whose inputs of the Output are 1, 0, 1, 1."""
    network = neuron(steps=4, readout=readout, tau=0.0)
    trace = run(network, np.reshape([2.0, 0.0, 2.0, 2.0], (4, 1, 1)))
    expected = sum([1, 0, 1, 1][4 - readout :])
    assert trace.readout_sum.tolist() == [[expected]]
    assert trace.logits.tolist() == [[np.float32(expected) / np.float32(readout)]]


def test_batches_do_not_depend_on_their_size() -> None:
    """More samples than are run together give each what it gets alone; none give none."""
    graph = with_backward(classifier(norm=True), 1, 0)
    for kind in ("image", "frames"):
        spec = InputSpec(kind="frames" if kind == "frames" else "image")
        network = random_network(graph, steps=3, input=spec)
        x = random_input(network, samples=71)
        together = run(network, x, potentials=True, dtype=np.float64)
        assert together.logits.shape == (71, 3)
        for sample in (0, 31, 32, 63, 64, 70):
            one = x[:, sample : sample + 1] if kind == "frames" else x[sample : sample + 1]
            alone = run(network, one, potentials=True, dtype=np.float64)
            np.testing.assert_allclose(together.logits[sample], alone.logits[0], rtol=1e-12)
            for name in graph.ports:
                assert together.spikes[name].shape == (3, 71, *graph.shapes[name])
                assert (together.spikes[name][:, sample] == alone.spikes[name][:, 0]).all()
                np.testing.assert_allclose(
                    together.potentials[name][:, sample], alone.potentials[name][:, 0], rtol=1e-9, atol=1e-12
                )
        none = run(network, x[:, :0] if kind == "frames" else x[:0], potentials=True)
        assert none.logits.shape == none.readout_sum.shape == (0, 3)
        assert none.spikes["lif1"].shape == none.potentials["lif1"].shape == (3, 0, 3, 4, 4)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_types_of_a_trace(dtype: type[np.float32] | type[np.float64]) -> None:
    """Spikes are booleans; everything else has the precision asked for. Potentials only when asked for."""
    network = random_network(classifier())
    trace = run(network, random_input(network), potentials=True, dtype=dtype)
    assert {s.dtype for s in trace.spikes.values()} == {np.dtype(bool)}
    assert {p.dtype for p in trace.potentials.values()} == {np.dtype(dtype)}
    assert trace.logits.dtype == trace.readout_sum.dtype == dtype
    assert list(trace.spikes) == list(trace.potentials) == ["lif1", "lif2"]
    assert run(network, random_input(network)).potentials == {}


def test_an_image_is_shown_at_every_step() -> None:
    """A batch of images, and the same as frames, give the same."""
    network = random_network(classifier(), steps=3)
    x = random_input(network)
    assert (as_steps(network, x) == np.stack([x] * 3)).all()
    assert (run(network, x).logits == run(network, np.stack([x] * 3)).logits).all()


@pytest.mark.parametrize(
    ("kind", "shape"),
    [
        ("image", (2, 4, 4)),
        ("image", (3, 2, 4, 5)),
        ("image", (3, 1, 4, 4)),
        ("image", (5, 3, 2, 4, 4)),
        ("image", (2, 3, 2, 2, 4, 4)),
        ("image", (3, 32)),
        ("image", (4,)),
        ("image", ()),
        ("frames", (3, 2, 4, 4)),
        ("frames", (4, 2, 4, 4)),
        ("frames", (5, 3, 2, 4, 4)),
    ],
)
def test_input_of_another_shape(kind: str, shape: tuple[int, ...]) -> None:
    """The message says which shapes fit and which came."""
    spec = InputSpec(kind="frames" if kind == "frames" else "image")
    network = random_network(classifier(), input=spec)
    with pytest.raises(NetworkError, match=r"\(4, 'batch', 2, 4, 4\)") as caught:
        run(network, np.zeros(shape))
    assert caught.value.got == shape
    assert ("(batch, 2, 4, 4) or" in caught.value.rule) == (kind == "image")


def test_edges_are_summed_in_their_order() -> None:
    """Graph: in -> (p, q, r) -> s -> out: single precision shows in which order the sums were done."""
    paths = {n: f"in {n} s" for n in ("p", "q", "r")}
    ops: dict[str, Op] = {
        "in": Input(shape=(1,)),
        **{n: linear(1, 1) for n in paths},
        "s": Lif(),
        "out": Output(),
    }
    weights = {"p.weight": [[1.0]], "q.weight": [[1e8]], "r.weight": [[-1e8]]}
    found = {}
    for order in ("pqr", "qrp"):
        graph = wired(ops, *(paths[n] for n in order), "s out")
        given = {n: np.array(w) for n, w in weights.items()}
        network = Network(graph=graph, weights=given, steps=1)
        found[order] = run(network, np.ones((1, 1)), potentials=True).potentials["s"].item()
    assert found == {"pqr": 0.0, "qrp": 1.0}


def test_an_edge_given_twice_counts_twice() -> None:
    """Graph: in -> a -> out and in -> a again."""
    network = Network(graph=direct("in a out", "in a", features=1), weights={}, steps=1)
    trace = run(network, np.array([[0.375], [0.75]]), potentials=True)
    assert trace.potentials["a"].ravel().tolist() == [0.75, 1.5]


def test_running_leaves_the_input_alone() -> None:
    """The caller's array and the network's weights are what they were."""
    network = random_network(mixed(), steps=5)
    x = random_input(network)
    before, weights = x.copy(), {n: w.copy() for n, w in network.weights.items()}
    run(network, x)
    assert (x == before).all()
    assert all((network.weights[n] == w).all() for n, w in weights.items())


def test_kernel_of_one_is_a_weighted_sum() -> None:
    """A convolution without neighbours, by hand: 2 channels to 1, weights 3 and -1, bias 0.5."""
    ops: dict[str, Op] = {
        "in": Input(shape=(2, 1, 1)),
        "c": conv(2, 1, 1, bias=True),
        "a": Lif(),
        "flat": Flatten(),
        "out": Output(),
    }
    weights = {"c.weight": np.array([3.0, -1.0]).reshape(1, 2, 1, 1), "c.bias": np.array([0.5])}
    network = Network(graph=wired(ops, " ".join(ops)), weights=weights, steps=1)
    x = np.array([[1.0, 0.5], [0.0, 1.0]]).reshape(2, 2, 1, 1)
    assert run(network, x, potentials=True).potentials["a"].ravel().tolist() == [3.0, -0.5]
