"""Models: each term by hand, memory's interpolation, time, what is unpriced, and draws."""

from __future__ import annotations

import numpy as np
import pytest

from snndeploy.errors import ConfigError
from snndeploy.targets import profile, uncertainty
from snndeploy.targets.energy import Energy, estimate
from snndeploy.targets.models import memory
from snndeploy.targets.profile import Interval, Price, TargetProfile
from snndeploy.targets.work import Setting, mapping_for
from tests.targets.priced import counted, dense_graph, profile_of

GRAPH = dense_graph(20, 10, 5)
COUNTS = counted(GRAPH, 4, 0.5, samples=8)
SRAM = {"energy.sram.8k": 10.0, "energy.sram.32k": 20.0, "energy.sram.1m": 100.0}
WIDTHS = {"bits.weight": 64.0, "bits.state": 64.0, "bits.activation": 64.0}


def priced(target: TargetProfile, **setting: object) -> Energy:
    """The small network on a target."""
    return estimate(COUNTS, target, Setting(**setting), draws=200)  # type: ignore[arg-type]  # by name


def test_events_by_hand() -> None:
    """Visits of all neurons, updates of driven ones, spikes, and power for machine steps at a given time each."""
    numbers: dict[str, float | tuple[float, float, float]] = {
        "energy.synop": 1.0,
        "energy.mac": 7.0,
        "energy.neuron.access": 2.0,
        "energy.neuron.update": 3.0,
        "energy.spike": 5.0,
        "power.static": 1e-3,
        "power.fixed": 2e-3,
    }
    energy = priced(profile_of("event-driven", numbers), step_time_us=10.0)
    spikes = float(COUNTS.spikes.mean())
    assert COUNTS.driven is not None
    expected = {
        "energy.synop": 5 * spikes,
        "energy.mac": 7 * 4 * 200,
        "energy.neuron.access": 2 * 10 * 4,
        "energy.neuron.update": 3 * float(COUNTS.driven.mean()),
        "energy.spike": 5 * spikes,
        "power.static": 1e3 * 4 * 10,
        "power.fixed": 2e3 * 4 * 10,
    }
    found = {term: part.value for term, part in energy.snn.by_term().items()}
    assert found == pytest.approx(expected)
    assert energy.unpriced == ("energy.message", "energy.hop.ew", "energy.hop.ns")
    assert energy.bound == "lower bound"
    assert energy.time_us == 40.0


def test_a_sample_period_decides_the_time_and_the_power() -> None:
    """In real time power counts for the whole period, whatever the machine steps take."""
    numbers: dict[str, float | tuple[float, float, float]] = {"power.static": 1.0, "time.step": 1.0}
    target = profile_of("event-driven", numbers)
    assert priced(target, sample_period_ms=2.0).snn.by_term()["power.static"].value == pytest.approx(2e9)
    assert priced(target).snn.by_term()["power.static"].value == pytest.approx(4e6)
    with pytest.raises(ConfigError, match="a step time or a sample period, not both"):
        Setting(step_time_us=1.0, sample_period_ms=1.0)
    with pytest.raises(ConfigError, match="batch: must be a finite number above 0, got 0"):
        Setting(batch=0)


def test_first_layers() -> None:
    """Frames cannot be cached; as spikes they cost synaptic operations; the host's cost nothing and are named."""
    target = profile_of("arithmetic", {"energy.synop": 1.0, "energy.mac": 100.0, "energy.neuron": 0.0})
    own = float(COUNTS.synaptic_operations.mean())
    nonzero = COUNTS.effective_mac_operations()
    assert nonzero is not None
    totals = {mode: priced(target, first_layer=mode).snn.total for mode in profile.FIRST_LAYER}
    assert totals == pytest.approx(
        {
            "cached": own + 100 * 4 * 200,
            "recompute": own + 100 * 4 * 200,
            "spike-encoded": own + float(nonzero.mean()),
            "host": own,
        }
    )
    assert priced(target, first_layer="host").hosted == ("fc1",)
    assert priced(target, first_layer="cached").ann.total == 100 * 250
    assert priced(target, first_layer="host").ann.total == 100 * 50  # left out there, too


def test_all_in_prices_charge_nothing_twice() -> None:
    """TrueNorth: synaptic operations at one price, and neither neurons, messages nor power beside it."""
    energy = priced(profile.load("truenorth"), first_layer="spike-encoded")
    assert list(energy.snn.by_term()) == ["energy.synop"]
    assert energy.bound == "estimate"


def test_loihi_2_is_a_lower_bound_of_nothing() -> None:
    """Without published prices nothing is priced, and all that is missing is named, for the ANN too."""
    energy = priced(profile.load("loihi2-style"))
    assert energy.snn.total == 0
    assert {"energy.synop", "energy.mac", "energy.neuron", "power.static"} <= set(energy.unpriced)
    assert "energy.mac" in energy.ann.unpriced
    assert energy.ratio is None
    assert energy.contributions == ()


def test_messages_are_priced_with_a_mapping() -> None:
    """On Loihi's cores messages are known, and so is the time that the cores take."""
    target = profile.load("loihi1-nahuku")
    mapping = mapping_for(GRAPH, target)
    assert mapping is not None
    from snndeploy.inputs import InputSpec
    from snndeploy.targets.counts import Skeleton, count

    spikes = {"A1": np.ones((4, 2, 10), np.bool_)}
    network = Skeleton(graph=GRAPH, steps=4, input=InputSpec(kind="frames"))
    energy = estimate(count(network, spikes, mapping=mapping), target, mapping=mapping)
    assert energy.snn.by_term()["energy.message"].value == pytest.approx(111 * 40)
    assert energy.unpriced == ()
    assert energy.snn.work.cores == mapping.cores


@pytest.mark.parametrize(
    ("kib", "pj"), [(1, 10), (8, 10), (16, 10 * 2**0.5), (32, 20), (1024, 100), (1e6, 100)]
)
def test_access_is_interpolated(kib: float, pj: float) -> None:
    """Straight lines on logarithmic axes through the priced sizes; flat beyond them."""
    assert memory.access_pj(kib, SRAM) == pytest.approx(pj)


def test_memory_by_hand() -> None:
    """Every weight, membrane potential and spike moves at the price of a small memory."""
    numbers: dict[str, float | tuple[float, float, float]] = {**SRAM, **WIDTHS, "memory.on_chip": 1024.0}
    numbers |= {"energy.synop": 1.0, "energy.mac": 0.0, "energy.neuron": 0.0}
    energy = priced(profile_of("memory", numbers), first_layer="host")
    spikes = float(COUNTS.spikes.mean())
    expected = {
        "energy.synop": 5 * spikes,
        "energy.sram (weights)": 10 * 5 * spikes,
        "energy.sram (states)": 10 * 2 * (5 * spikes + 10 * 4),
        "energy.sram (spikes)": 10 * 2 * spikes,
    }
    found = {term: part.value for term, part in energy.snn.by_term().items()}
    assert found == pytest.approx(expected)


def test_what_does_not_fit_comes_from_dram() -> None:
    """Beyond the chip's memory each weight crosses once an evaluation at most."""
    numbers: dict[str, float | tuple[float, float, float]] = {**SRAM, **WIDTHS, "energy.dram": 1000.0}
    numbers |= {"energy.synop": 1.0, "energy.mac": 1.0, "energy.neuron": 0.0, "memory.on_chip": 1.0}
    energy = priced(profile_of("memory", numbers))
    spikes = float(COUNTS.spikes.mean())
    fetched = 200 * 4 + min(5 * spikes, 50 * 4)
    assert energy.snn.by_term()["energy.dram"].value == pytest.approx(1000 * fetched)


def test_networks_on_one_target_share_their_draws() -> None:
    """The ratio to the artificial network is far narrower than either, and exact where one price is all there is."""
    target = profile_of(
        "arithmetic", {"energy.synop": 1.0, "energy.mac": (0.1, 1.0, 10.0), "energy.neuron": 0.0}
    )
    energy = estimate(counted(GRAPH, 4, 0.0), target)
    found = energy.ratio
    assert found is not None
    assert found.p5 == pytest.approx(found.p95)
    assert found.p50 == pytest.approx(4 * 200 / 250)
    total = energy.snn.range
    assert total.p95 > 20 * total.p5


def test_ratios_need_the_same_prices() -> None:
    """Both without a price for updates: the ratio of the rest. Only one in need of a missing price: none."""
    paper = priced(profile.load("paper-45nm"))
    assert paper.unpriced == paper.ann.unpriced == ("energy.neuron",)
    assert paper.ratio is not None
    spinnaker = priced(profile.load("spinnaker2"))
    assert spinnaker.unpriced != spinnaker.ann.unpriced
    assert spinnaker.ratio is None


def test_draws_keep_to_their_range_and_share_names_and_sources() -> None:
    """The value is the median; same name, source and seed: same draws; another of them: others."""
    price = Price(Interval(3.0, 1.0, 30.0), "pJ", "here", "measured")
    first = uncertainty.drawn({"energy.synop": price}, 4000, 0)["energy.synop"]
    assert isinstance(first, np.ndarray)
    assert 1.0 <= first.min() < 1.1
    assert 28 < first.max() <= 30
    assert np.median(first) == pytest.approx(3, rel=0.05)
    again = uncertainty.drawn({"energy.synop": price}, 4000, 0)["energy.synop"]
    np.testing.assert_array_equal(first, again)
    other = Price(price.amount, "pJ", "elsewhere", "measured")
    for numbers, seed in (
        ({"energy.synop": other}, 0),
        ({"energy.mac": price}, 0),
        ({"energy.synop": price}, 1),
    ):
        (drawn,) = uncertainty.drawn(numbers, 4000, seed).values()
        assert abs(np.corrcoef(np.log(first), np.log(drawn))[0, 1]) < 0.1


def test_the_bootstrap_has_the_standard_error_of_the_mean() -> None:
    """Also for more samples than it draws from one by one."""
    rng = np.random.default_rng(0)
    for samples in (50, 1000, 5300):
        values = rng.integers(0, 1000, samples)
        means = uncertainty.bootstrap(samples, 4000, 0)(values)
        assert np.mean(means) == pytest.approx(values.mean(), rel=0.02)
        assert np.std(means) == pytest.approx(values.std() / samples**0.5, rel=0.1)


def test_contributions_name_what_matters() -> None:
    """The price of most of the work contributes most; what is exact contributes nothing."""
    numbers: dict[str, float | tuple[float, float, float]] = {"energy.neuron": 5.0}
    numbers |= {"energy.synop": (0.9, 1.0, 1.1), "energy.mac": (0.1, 1.0, 10.0)}
    energy = priced(profile_of("arithmetic", numbers))
    names = [one.name for one in energy.contributions]
    assert names[0] == "energy.mac"
    assert energy.contributions[0].share > 0.9
    assert "energy.neuron" not in names
    assert set(energy.used) == {"energy.synop", "energy.mac", "energy.neuron"}


@pytest.mark.parametrize("name", profile.shipped())
def test_every_shipped_profile_prices_a_network(name: str) -> None:
    """Totals by op and by term agree with the total, and the report is plain."""
    import json

    energy = priced(profile.load(name))
    for parts in (energy.snn.by_op(), energy.snn.by_term()):
        assert sum(part.value for part in parts.values()) == pytest.approx(energy.snn.total)
    report = energy.to_json()
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    assert report["total_pj"]["low"] <= report["total_pj"]["value"] <= report["total_pj"]["high"]


def test_draws_need_a_number() -> None:
    """Too few draws have no percentiles."""
    with pytest.raises(ConfigError, match="draws: must be between 20"):
        estimate(COUNTS, profile.load("paper-45nm"), draws=3)
