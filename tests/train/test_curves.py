"""Finished runs are found, read and grouped into curves."""

from __future__ import annotations

import json
import re
import shlex
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from snndeploy.errors import ConfigError, FileFormatError
from snndeploy.train.comparison import compare
from snndeploy.train.curves import Curve, curves
from snndeploy.train.runs import find
from tests.train.results import INTENSITIES, SEEDS, result, sweep


def found(*folders: Path) -> tuple[Curve, ...]:
    """The curves in folders."""
    return curves(find(folders).runs)


def labels(*folders: Path) -> list[str]:
    """Their labels."""
    return [curve.label for curve in found(*folders)]


def conversion(steps: int, accuracy: float, energy_pj: float) -> dict[str, Any]:
    """What a converted network came to."""
    facts = {"test_accuracy": accuracy, "estimated_energy_pj": energy_pj, "dead_rate": 0.5}
    return {"steps": steps, **facts}


CONVERTED = conversion(5, 0.5, 1.0)
ANN = ("network.neuron=qrelu", "network.steps=1", "network.tau=1.0", "network.backward=[]")


def test_a_sweep(tmp_path: Path) -> None:
    """A curve for each penalty, all with the one baseline; mean energy of the baseline is ratio 1."""
    three = found(sweep(tmp_path))
    assert [curve.label for curve in three] == ["syn", "total", "balance"]
    for curve in three:
        assert [run.intensity for run in curve.penalised] == [i for i in INTENSITIES for _ in SEEDS]
        assert [run.config.seed for run in curve.unpenalised] == list(SEEDS)
        assert curve.baseline == curve.unpenalised
        assert curve.baseline_energy_pj == pytest.approx(1000.0)
        assert curve.points(curve.unpenalised)[0] == pytest.approx((0.99, 0.898))
        assert curve.has_own_baseline


def test_means(tmp_path: Path) -> None:
    """Mean and deviation over the seeds, by intensity; that of the baseline's ratio is exactly 1."""
    first, *rest = found(sweep(tmp_path))[0].means()
    assert (first.intensity, first.count, first.energy_ratio.mean) == (0.0, 3, 1.0)
    assert first.energy_ratio.std == pytest.approx(0.01)
    assert first.accuracy.std == pytest.approx(0.002)
    assert [mean.intensity for mean in rest] == list(INTENSITIES)
    assert rest[1].point == pytest.approx((0.25, 0.86))
    assert rest[1].dead_rate.mean == 0.25


def test_folders_are_looked_through_once(tmp_path: Path) -> None:
    """The same run found by two ways counts once."""
    sweep(tmp_path / "a")
    (tmp_path / "link").symlink_to(tmp_path / "a")
    count = len(find([tmp_path / "a"]).runs)
    assert count == len(SEEDS) * (1 + 3 * len(INTENSITIES))
    assert len(find([tmp_path, tmp_path / "a", tmp_path / "link"]).runs) == count


def test_labels_say_what_differs(tmp_path: Path) -> None:
    """The penalty first, then other keys; penalty and p where nothing differs."""
    first = sweep(tmp_path / "a", penalties=("syn",))
    assert labels(first) == ["syn p=1"]
    second = sweep(tmp_path / "b", "penalty.power=2", "optimizer.lr=0.5", penalties=("syn", "total"))
    assert labels(first, second) == [
        "syn p=1 optimizer.lr=0.02",
        "syn p=2 optimizer.lr=0.5",
        "total p=2 optimizer.lr=0.5",
    ]


def test_lists_in_labels(tmp_path: Path) -> None:
    """Backward connections are written in a row."""
    first = sweep(tmp_path / "a", "network.backward=[]", penalties=("syn",))
    second = sweep(tmp_path / "b", "network.backward=['4:2', '5:1']", penalties=("syn",))
    assert labels(first, second) == ["network.backward=none", "network.backward=4:2+5:1"]


def test_each_configuration_has_its_own_baseline(tmp_path: Path) -> None:
    """Only keys of the penalty may differ from it."""
    first = sweep(tmp_path / "a", penalties=("syn",))
    result(tmp_path / "b" / "base", 0.8, 500.0, "optimizer.lr=0.5")
    result(tmp_path / "b" / "run", 0.7, 250.0, "optimizer.lr=0.5", "penalty.intensity=1.0", "penalty.power=2")
    one, other = found(first, tmp_path / "b")
    assert one.baseline_energy_pj == pytest.approx(1000.0)
    assert other.points(other.runs) == [(1.0, 0.8), (0.5, 0.7)]


@pytest.mark.parametrize("setting", ["threads=4", "device=cuda", "deterministic=true", "data.folder=x"])
def test_what_decides_no_result_makes_no_curve(tmp_path: Path, setting: str) -> None:
    """Runs on other machines belong together."""
    sweep(tmp_path / "a", penalties=("syn",))
    result(tmp_path / "more", 0.5, 10.0, "seed=7", "penalty.intensity=9.0", setting)
    (curve,) = found(tmp_path)
    assert curve.penalised[-1].intensity == 9.0


def test_keys_of_an_older_version_have_their_defaults(tmp_path: Path) -> None:
    """A configuration that lacks a key is that with its default."""
    sweep(tmp_path / "a", penalties=("syn",))
    path = result(tmp_path / "old", 0.5, 10.0, "penalty.intensity=9.0") / "test.json"
    facts = json.loads(path.read_text())
    del facts["config"]["network"]["tau"]
    path.write_text(json.dumps(facts))
    assert len(found(tmp_path)) == 1


def test_each_seed_is_relative_to_its_own_baseline(tmp_path: Path) -> None:
    """So the baseline of each stands at ratio 1, also if it spends more than the mean."""
    by_seed = found(sweep(tmp_path))[0].points_by_seed()
    assert list(by_seed) == list(SEEDS)
    assert [points[0] for points in by_seed.values()] == [(1.0, 0.898), (1.0, 0.9), (1.0, 0.902)]
    assert by_seed[2][1] == pytest.approx((500 / 1010, 0.882))


def test_a_seed_that_lacks_an_intensity_is_no_curve_of_its_own(tmp_path: Path) -> None:
    """Its runs count among all, not by seed."""
    sweep(tmp_path, penalties=("syn",))
    (tmp_path / "syn,2" / "seed1" / "test.json").unlink()
    (curve,) = found(tmp_path)
    assert list(curve.points_by_seed()) == [0, 2]
    assert len(curve.penalised) == len(SEEDS) * len(INTENSITIES) - 1
    assert find([tmp_path]).unfinished == (tmp_path / "syn,2" / "seed1",)


def test_a_baseline_trained_for_each_penalty_counts_once(tmp_path: Path) -> None:
    """Without intensity the name of the penalty does nothing; another result of a seed does count."""
    sweep(tmp_path, penalties=("syn",))
    result(tmp_path / "again", 0.9, 1000.0, "seed=1", "penalty.name=total")
    (curve,) = found(tmp_path)
    assert len(curve.baseline) == len(SEEDS)
    result(tmp_path / "differs", 0.9, 1004.0, "seed=1", "penalty.name=balance")
    (curve,) = found(tmp_path)
    assert len(curve.baseline) == len(SEEDS) + 1
    assert curve.baseline_energy_pj == pytest.approx((990 + (1000 + 1004) / 2 + 1010) / 3), "each seed once"
    base = curve.mean(curve.baseline)
    assert base.count == 4
    assert base.energy_ratio.mean == pytest.approx(1.0)
    assert base.energy_ratio.std == pytest.approx(
        statistics.stdev([990, 1002, 1010]) / curve.baseline_energy_pj
    )
    assert curve.points_by_seed()[1][0] == pytest.approx((1000 / 1002, 0.9))


def test_the_same_training_in_two_folders(tmp_path: Path) -> None:
    """Both are named."""
    sweep(tmp_path / "a")
    other = result(tmp_path / "b", 0.1, 1.0, "seed=2", "penalty.intensity=2.0", "threads=2")
    message = re.escape(f"{tmp_path / 'a/syn,2/seed2'} and {other}: hold the same training, with seed 2")
    with pytest.raises(ConfigError, match=message):
        find([tmp_path])


def test_no_baseline(tmp_path: Path) -> None:
    """The message is a command that makes one."""
    for seed in (3, 4):
        folder = tmp_path / f"run{seed}"
        result(folder, 0.5, 10.0, f"seed={seed}", "penalty.intensity=1.0")
    command = (
        rf"snndeploy train {tmp_path}/run3/config.toml --set penalty.intensity=0 --set seed=3 --seeds 2 "
        rf"--out {tmp_path}/baseline"
    )
    with pytest.raises(ConfigError, match=rf"^curve syn p=1: has no baseline.*{command}"):
        found(tmp_path)


def test_a_command_for_seeds_apart(tmp_path: Path) -> None:
    """It names each seed, and a shell takes it as it is."""
    parent = tmp_path / "it's here"
    for seed in (3, 7):
        result(parent / f"run{seed}", 0.5, 10.0, f"seed={seed}", "penalty.intensity=1.0")
    with pytest.raises(ConfigError) as caught:
        found(tmp_path)
    command = str(caught.value).split("run: ")[1].removesuffix(", and name that folder, too")
    assert shlex.split(command) == [
        *("snndeploy", "train", str(parent / "run3" / "config.toml"), "--set", "penalty.intensity=0"),
        *("--sweep", "seed=3,7", "--out", str(parent / "baseline")),
    ]


def test_no_penalty(tmp_path: Path) -> None:
    """A baseline alone is no curve."""
    with pytest.raises(ConfigError, match="no penalty"):
        found(result(tmp_path / "run", 0.5, 10.0))


def test_a_silent_baseline(tmp_path: Path) -> None:
    """Nothing can be relative to no energy."""
    result(tmp_path / "base", 0.5, 0.0)
    result(tmp_path / "run", 0.5, 10.0, "penalty.intensity=1.0")
    with pytest.raises(ConfigError, match="base: is a baseline that never fires"):
        found(tmp_path)


@pytest.mark.parametrize("energy_pj", [0.0, 1e-300])
def test_a_silent_seed_of_a_baseline(tmp_path: Path, energy_pj: float) -> None:
    """It is named rather than dropped."""
    sweep(tmp_path, penalties=("syn",))
    result(tmp_path / "dead", 0.1, energy_pj, "seed=9")
    with pytest.raises(ConfigError, match=r"dead: is a baseline that never fires.* leave out .* seed 9"):
        found(tmp_path)


def test_the_most_energy_there_can_be(tmp_path: Path) -> None:
    """Ratios and deviations stay finite."""
    for seed, most in enumerate((1e30, 0.0)):
        result(tmp_path / f"base{seed}", 0.5, 1e-12, f"seed={seed}")
        result(tmp_path / f"run{seed}", 0.5, most, f"seed={seed}", "penalty.intensity=1.0")
    facts = compare(found(tmp_path), (0.0,), (0.0,))
    assert json.dumps(facts, allow_nan=False)
    assert facts["curves"][0]["means"][1]["energy_ratio"]["std"] == pytest.approx(1e42 / 2**0.5)


def test_nothing_found(tmp_path: Path) -> None:
    """Unfinished runs are counted; what is no folder is named."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "metrics.jsonl").touch()
    with pytest.raises(ConfigError, match=r"no finished run there \(1 unfinished\)"):
        find([tmp_path])
    with pytest.raises(ConfigError, match="missing: is no folder"):
        find([tmp_path / "missing"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("{", "cannot be read"),
        ("{}", "holds no result of a run"),
        ({"test_accuracy": None}, r"must hold test_accuracy, a number in \[0, 1\], got None"),
        ({"test_accuracy": 93.0}, r"must hold test_accuracy, a number in \[0, 1\], got 93"),
        ({"test_accuracy": True}, "must hold test_accuracy"),
        (
            {"estimated_energy_pj": -1.0},
            r"must hold estimated_energy_pj, a number in \[0, 1e\+30\], got -1",
        ),
        ({"estimated_energy_pj": 1.1e30}, "must hold estimated_energy_pj"),
        ({"estimated_energy_pj": float("inf")}, "cannot be read, got Infinity is no finite number"),
        ({"dead_rate": float("nan")}, "cannot be read, got NaN is no finite number"),
        ({"dead_rate": None}, "must hold dead_rate"),
        ({"config": {"strange": 1}}, "holds no configuration of this version"),
        ({"conversions": 3}, "holds no conversions"),
        ({"conversions": [{}]}, "must hold conversions with different whole numbers of steps"),
        ({"conversions": [CONVERTED | {"steps": 1.5}]}, r"must hold conversions .*, got \[1\.5\]"),
        ({"conversions": [CONVERTED | {"steps": 0}]}, "must hold conversions"),
        ({"conversions": [CONVERTED, CONVERTED]}, r"must hold conversions with different .*, got \[5, 5\]"),
        ({"conversions": [CONVERTED | {"dead_rate": "0.5"}]}, "must hold dead_rate"),
    ],
)
def test_damaged_results(tmp_path: Path, change: str | dict[str, Any], message: str) -> None:
    """The message names the file and what is wrong with it."""
    sweep(tmp_path)
    path = tmp_path / "syn,1" / "seed0" / "test.json"
    text = change if isinstance(change, str) else json.dumps(json.loads(path.read_text()) | change)
    path.write_text(text)
    with pytest.raises(FileFormatError, match=rf"^{re.escape(str(path))}: {message}"):
        find([tmp_path])


def test_the_exact_format(tmp_path: Path) -> None:
    """Its accuracies on request; a network that could not be quantised is named with the reason."""
    sweep(tmp_path, penalties=("syn",))
    accuracies = {run.accuracy for run in find([tmp_path], "exact").runs}
    assert max(accuracies) == pytest.approx(0.902 - 0.125)
    result(tmp_path / "bad", 0.5, 1.0, "seed=9", exact_test_accuracy=None, exact_problem="op lif1: too wide")
    with pytest.raises(ConfigError, match="bad: has no network in the exact format, got op lif1: too wide"):
        find([tmp_path], "exact")


def test_converted_networks(tmp_path: Path) -> None:
    """A curve for each number of time steps, relative to the ANN without a penalty converted alike."""
    for intensity, accuracy in ((0.0, 0.8), (1.0, 0.7)):
        both = [conversion(1, accuracy - 0.5, 100 - 50 * intensity), conversion(5, accuracy, 400 - intensity)]
        settings = (*ANN, f"penalty.intensity={intensity}")
        result(tmp_path / f"{intensity:g}", 0.0, 0.0, *settings, test_accuracy=None, conversions=both)
    one, five = found(tmp_path)
    assert (one.label, five.label) == ("converted T=1", "converted T=5")
    assert np.array(one.points(one.runs)) == pytest.approx(np.array([(1.0, 0.3), (0.5, 0.2)]))
    assert five.points(five.runs)[1] == pytest.approx((0.9975, 0.7))


def test_what_else_an_ann_is_converted_to(tmp_path: Path) -> None:
    """It is no difference between networks for the same T, which may then be there twice."""
    for folder, intensity, steps in (("a", 0.0, (1, 5)), ("b", 1.0, (5,))):
        settings = (*ANN, f"penalty.intensity={intensity}", f"network.conversion_steps={list(steps)}")
        made = [conversion(t, 0.8, 100.0) for t in steps]
        result(tmp_path / folder, 0.0, 0.0, *settings, test_accuracy=None, conversions=made)
    (curve,) = found(tmp_path)
    assert curve.label == "converted T=5"
    settings = (*ANN, "penalty.intensity=1.0", "network.conversion_steps=[5, 10]")
    made = [conversion(t, 0.8, 100.0) for t in (5, 10)]
    result(tmp_path / "c", 0.0, 0.0, *settings, test_accuracy=None, conversions=made)
    with pytest.raises(ConfigError, match=r"b and .*c: hold .* with seed 0 and converted to T = 5; name one"):
        found(tmp_path)


def test_values_stand_in_labels_as_in_names_of_folders(tmp_path: Path) -> None:
    """True is true."""
    first = sweep(tmp_path / "a", penalties=("syn",))
    second = sweep(tmp_path / "b", "penalty.normalised=true", penalties=("syn",))
    assert labels(first, second) == ["penalty.normalised=false", "penalty.normalised=true"]


def test_a_baseline_for_all(tmp_path: Path) -> None:
    """Converted networks relative to a spiking one: their own unpenalised runs are on the curve."""
    spiking = result(tmp_path / "snn", 0.9, 200.0)
    result(tmp_path / "penalised", 0.85, 100.0, "penalty.intensity=1.0")
    for intensity in (0.0, 1.0):
        one = [conversion(5, 0.8 - 0.1 * intensity, 400 - 100 * intensity)]
        settings = (*ANN, f"penalty.intensity={intensity}")
        result(tmp_path / "ann" / f"{intensity:g}", 0.0, 0.0, *settings, test_accuracy=None, conversions=one)
    direct, converted = curves(find([tmp_path]).runs, find([spiking]).runs)
    assert (direct.label, converted.label) == ("syn p=1", "converted T=5")
    assert converted.points_by_seed() == {0: converted.points(converted.runs)}
    assert direct.points(direct.runs) == [(1.0, 0.9), (0.5, 0.85)]
    assert np.array(converted.points(converted.runs)) == pytest.approx(np.array([(2.0, 0.8), (1.5, 0.7)]))
    with pytest.raises(ConfigError, match="penalised: is penalised, so it is no baseline"):
        curves(find([tmp_path]).runs, find([tmp_path / "penalised"]).runs)
    other = result(tmp_path / "other", 0.9, 200.0, "optimizer.lr=0.5")
    with pytest.raises(ConfigError, match="are two baselines"):
        curves(find([tmp_path]).runs, find([spiking, other]).runs)
    with pytest.raises(ConfigError, match=r"ann/0: holds a converted ANN, .* got T = 5; name a network"):
        curves(find([tmp_path]).runs, find([tmp_path / "ann" / "0"]).runs)


def test_scores_by_hand(tmp_path: Path) -> None:
    """Seed 1 of syn: ratios 1/16, 1/4, 1/2, 1 with accuracies 0.82, 0.86, 0.88, 0.9, over 0.5.

    (3/16 (0.32 + 0.36) + 1/4 (0.36 + 0.38) + 1/2 (0.38 + 0.4)) / 2 = 0.35125, of the 0.5 there can be.
    """
    facts = compare(found(sweep(tmp_path)), (50.0,), (0.0, 1.0))
    (score,) = facts["curves"][0]["scores"]
    assert score["auc_by_seed"]["1"] == pytest.approx(0.7025)
    assert score["auc_over_seeds"]["mean"] == statistics.fmean(score["auc_by_seed"].values())
    assert score["points"] == len(SEEDS) * len(INTENSITIES)
    assert score["mi_paper"] is not None


def test_equal_accuracy_by_hand(tmp_path: Path) -> None:
    """Means 0.88 at 1/2 and 0.9 at 1: one point less takes 3/4; more than the baseline's is never reached."""
    rows = compare(found(sweep(tmp_path)), (50.0,), (0.0, 1.0, 2.0, -1.0))["curves"][0]["equal_accuracy"]
    ratios = [row["energy_ratio"] for row in rows]
    assert ratios[:3] == pytest.approx([1.0, 0.75, 0.5])
    assert ratios[3] is None


def test_order_of_penalties(tmp_path: Path) -> None:
    """One verdict for each setting with all three, over the seeds."""
    sweep(tmp_path / "a")
    sweep(tmp_path / "b", "penalty.power=2", "optimizer.lr=0.5", penalties=("balance", "total", "syn"))
    sweep(tmp_path / "c", "penalty.power=2", "optimizer.lr=0.7", penalties=("balance", "total"))
    orders = compare(found(tmp_path), (50.0,), ())["orders"]
    assert [order["setting"] for order in orders] == ["p=1 optimizer.lr=0.02", "p=2 optimizer.lr=0.5"]
    assert [score["name"] for score in orders[0]["order"]] == ["syn", "total", "balance"]
    assert orders[0]["verdict"] == "as claimed"
    assert orders[1]["verdict"] == "contradicted: total > syn, balance > syn, balance > total"


def test_order_with_one_seed(tmp_path: Path) -> None:
    """It is printed, and that the spread is unknown."""
    sweep(tmp_path)
    for path in tmp_path.rglob("test.json"):
        if path.parent.name != "seed1":
            path.unlink()
    (order,) = compare(found(tmp_path), (50.0,), ())["orders"]
    assert order["verdict"] == "as claimed; the spread is unknown with fewer than two whole seeds"
    assert order["order"][0] == {"name": "syn", "mean": pytest.approx(0.7025), "std": None}


def test_order_over_what_is_common(tmp_path: Path) -> None:
    """A penalty with an intensity or a seed more is compared without it, and nothing is without one."""
    (expected,) = compare(found(sweep(tmp_path / "a")), (50.0,), ())["orders"]
    assert (expected["intensities"], expected["seeds"]) == (list(INTENSITIES), list(SEEDS))
    for seed in SEEDS:
        settings = (f"seed={seed}", "penalty.name=balance", "penalty.intensity=64.0")
        result(tmp_path / "b" / f"{seed}", 0.9, 1.0, *settings)
    result(tmp_path / "c", 0.9, 1.0, "seed=0", "penalty.name=total", "penalty.intensity=128.0")
    three = found(tmp_path)
    assert compare(three, (50.0,), ())["orders"] == [expected]
    assert (
        compare(three, (50.0,), ())["curves"][2]["scores"][0]["auc_over_seeds"]["mean"]
        > expected["order"][0]["mean"]
    )
    for path in tmp_path.glob("a/total,*/seed1/test.json"):
        path.unlink()
    (order,) = compare(found(tmp_path), (50.0,), ())["orders"]
    assert order["seeds"] == [0, 2]
    for seed, intensity in ((0, 1), (2, 4)):
        (tmp_path / f"a/total,{intensity}/seed{seed}/test.json").unlink()
    (order,) = compare(found(tmp_path), (50.0,), ())["orders"]
    assert (order["order"], order["seeds"]) == ([], [])
    assert order["verdict"] == "not comparable: no seed with every common intensity in common"
