"""`snndeploy schedule`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from snndeploy.backbones import resnet8
from snndeploy.cli.scheduled import infeasible
from snndeploy.ir import Schedule, backward_connections, load, schedule, with_backward
from snndeploy.targets.chip import load as load_chip
from tests.test_docs import table


def test_resnet18(run_json: Callable[..., Any]) -> None:
    """Without backward connections: one logical step in every machine step, 22 of them, skips wait for one."""
    facts = run_json("schedule", "resnet18")
    assert (facts["schedule"], facts["initiation_interval"], facts["cycle"]) == ("scheduled", 1, [])
    assert (facts["machine_steps"], facts["machine_steps_per_sample"], facts["gap"]) == (22, 4, 0)
    assert [p["start"] for p in facts["populations"]] == list(range(19))
    assert [p["port"] for p in facts["populations"]] == [None, *range(17), None]
    assert sorted(s["wait"] for s in facts["synapses"]) == 18 * [0] + 8 * [1]
    assert (facts["backward"], facts["target"], facts["hardware"]) == ([], None, True)


@pytest.mark.parametrize(
    ("span", "interval", "steps"), [(1, 2, 25), (2, 3, 28), (4, 5, 34), (8, 9, 46), (16, 17, 70)]
)
def test_what_a_connection_costs(run_json: Callable[..., Any], span: int, interval: int, steps: int) -> None:
    """Its span and one machine steps for every logical one; the report says what sets it, and what would do."""
    facts = run_json("schedule", "resnet18", "--backward", f"{span}:0", "--steps", "18")
    assert facts["initiation_interval"] == len(facts["cycle"]) == interval
    assert facts["cycle_delay"] == 1
    (cost,) = facts["backward"]
    assert (cost["source"], cost["target"], cost["delay"]) == (span, 0, 1)
    assert cost["without"] == facts["without_backward"]
    assert cost["without"] == {"initiation_interval": 1, "machine_steps": 36, "machine_steps_per_sample": 18}
    assert cost["alone"] == facts["fastest"]
    assert facts["fastest"]["machine_steps"] == facts["machine_steps"] == 17 * interval + 19
    pipeline = facts["pipelined"]
    assert [(d["delay"], d["needed"]) for d in pipeline["delays"]] == [(1, interval)]
    assert (pipeline["initiation_interval"], pipeline["machine_steps"]) == (1, 36)
    assert pipeline["machine_steps_per_sample"] == 18 + interval
    assert run_json("schedule", "resnet18", "--backward", f"{span}:0")["machine_steps"] == steps


def test_documented_figures(run_json: Callable[..., Any]) -> None:
    """The table of the timing contract."""
    rows = table("timing-contract.md", "delay for a pipeline")
    assert [row["ports"] for row in rows] == ["none", "0", "1", "2", "4", "8", "16"]
    for row in rows:
        arguments = [] if row["ports"] == "none" else ["--backward", f"{row['ports']}:0"]
        facts = run_json("schedule", "resnet18", *arguments)
        assert row["II"] == str(facts["initiation_interval"])
        assert row["machine steps"] == str(facts["machine_steps"])
        assert row["machine steps between samples"] == str(facts["machine_steps_per_sample"])
        assert row["delay for a pipeline"] == "".join(str(d["needed"]) for d in facts["pipelined"]["delays"])


def test_on_a_chip(run_json: Callable[..., Any], run: Callable[..., Result]) -> None:
    """Machine steps times the time of one, with its range, its source and the word ESTIMATED."""
    arguments = ["schedule", "resnet18", "--backward", "6:3", "--target", "loihi2"]
    facts = run_json(*arguments)
    step, target = load_chip("loihi2").step_time_us, facts["target"]
    assert target["name"] == "loihi2"
    for end in ("value", "low", "high"):
        assert target["latency"][end] == pytest.approx(facts["machine_steps"] * getattr(step, end))
    between = facts["machine_steps_per_sample"]
    assert between == (4 + 1) * 4
    assert target["throughput"]["value"] == pytest.approx(1e6 / (between * step.value))
    assert target["throughput"]["low"] == pytest.approx(1e6 / (between * step.high))
    assert target["throughput"]["high"] == pytest.approx(1e6 / (between * step.low))
    assert target["infeasible"] == []
    text = run(*arguments).output
    assert "ESTIMATED on loihi2" in text
    assert target["step_time"]["source"] in text


def test_neurons_that_a_chip_has_not(run_json: Callable[..., Any], run: Callable[..., Result]) -> None:
    """Loihi 1 updates every neuron in every machine step; a pipeline can live with that."""
    arguments = ["schedule", "resnet18", "--backward", "6:3", "--steps", "8", "--target", "loihi1"]
    (problem,) = run_json(*arguments)["target"]["infeasible"]
    assert "update once in 4 machine steps" in problem
    assert f"not possible on loihi1: {problem}" in run(*arguments).output
    assert run_json(*arguments, "--pipelined")["target"]["infeasible"] == []


def test_waits_that_a_chip_cannot_hold() -> None:
    """A delay over many logical steps of many machine steps; the synapse is named."""
    graph = with_backward(resnet8((1, 16, 16), 10), 0, 0, 70)
    found, chip = schedule(graph), load_chip("loihi2")
    assert max(waits_of(found)) == 69
    (problem,) = infeasible(found, chip)
    assert problem == "stem.lif -> stem.lif (delay 70) waits 69 machine steps, and a synapse can wait 62"
    assert infeasible(schedule(with_backward(resnet8((1, 16, 16), 10), 0, 0, 63)), chip) == []


def waits_of(found: Schedule) -> list[int]:
    """All waits of a schedule."""
    return list(found.waits.values())


def test_pipelined_network_file(
    run: Callable[..., Result], run_json: Callable[..., Any], network: Path
) -> None:
    """The delays of the report are those of the file, which keeps steps, format and weights."""
    output = network.with_name("pipelined.snn.safetensors")
    source = load(network)
    assert backward_connections(source.graph)[0].delay == 1
    facts = run_json("schedule", network, "--pipelined", "-o", output)
    assert (facts["schedule"], facts["initiation_interval"], facts["machine_steps"]) == ("pipelined", 1, 8)
    written = load(output)
    assert [(c.source, c.target, c.delay) for c in backward_connections(written.graph)] == [(2, 0, 3)]
    assert (written.steps, written.format.name) == (source.steps, source.format.name)
    assert len(written.weights) == len(source.weights)
    again = run("schedule", output, "--kind", "pipelined")
    assert again.exit_code == 0, again.output
    text = run("schedule", network, "--pipelined", "-o", output).output
    assert "train it with them" in text
    assert "--from" in text


def test_other_intervals_and_kinds(
    run: Callable[..., Result], run_json: Callable[..., Any], network: Path
) -> None:
    """A longer interval, and the CPU's schedule, which is said to be no hardware timing."""
    assert run_json("schedule", network, "--interval", "5")["machine_steps"] == 3 * 5 + 4 + 1
    facts = run_json("schedule", network, "--kind", "synchronous")
    assert (facts["schedule"], facts["hardware"], facts["machine_steps"]) == ("synchronous", False, 4)
    assert {p["start"] for p in facts["populations"]} == {0}
    assert "for a CPU, no hardware timing" in run("schedule", network, "--kind", "synchronous").output


def test_table(run: Callable[..., Result], network: Path) -> None:
    """What sets the interval, what each connection costs, and the pipeline that would not."""
    text = run("schedule", network).output
    assert "smallest on a chip: 3, set by" in text
    assert "(3 synapses, total delay 1)" in text
    assert "2:0 alone" in text
    assert "all but 2:0" in text
    assert "pipelined, II = 1, if trained with longer delays" in text
    assert "1 to 3" in text


@pytest.mark.parametrize("form", ["svg", "png"])
def test_drawing(run: Callable[..., Result], network: Path, tmp_path: Path, form: str) -> None:
    """In either format; an SVG says in words what it shows."""
    path = tmp_path / f"drawing.{form}"
    assert run("schedule", network, "--draw", path).exit_code == 0
    if form == "png":
        assert path.read_bytes().startswith(b"\x89PNG")
        return
    text = path.read_text()
    assert f"<title>{network.name}: scheduled, II = 3, 14 machine steps</title>" in text
    assert "One logical step starts every 3 machine steps" in text
    assert "Backward connections: 2:0 (delay 1)." in text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["resnet99"], ["resnet99", "resnet18"]),
        (["resnet18", "--backward", "6:3", "--interval", "3"], ["at least 4", "4 synapses"]),
        (["resnet18", "--backward", "6:3", "--kind", "pipelined"], ["cycle", "needs 4"]),
        (["resnet18", "--backward", "6:3", "--pipelined"], ["6:3", "delay of 4", "T = 4"]),
        (["resnet18", "--backward", "6:3:4"], ["delay 4", "4 time steps"]),
        (["resnet18", "--kind", "pipelined", "--interval", "2"], ["pipelined", "got 2"]),
        (["resnet18", "--kind", "synchronous", "--target", "loihi2"], ["--target", "CPU"]),
        (["resnet18", "--interval", f"1{'0' * 400}", "--target", "loihi2"], ["--interval", "1000000000"]),
        (["resnet18", "--kind", "modulo"], ["modulo"]),
        (["resnet18", "--target", "loihi3"], ["loihi3", "loihi1"]),
        (["resnet18", "-o", "x.safetensors"], ["--output", "--pipelined"]),
        (["resnet18", "--pipelined", "-o", "x.safetensors"], ["--output", "backbone"]),
        (["resnet18", "--draw", "x.pdf"], ["x.pdf", ".svg"]),
    ],
)
def test_bad_input(run: Callable[..., Result], arguments: list[str], words: list[str]) -> None:
    """Exit code 2 and a message that names what is wrong."""
    result = run("schedule", *arguments)
    assert result.exit_code == 2, result.output
    assert all(word in result.output for word in words), result.output


def test_a_changed_network_is_not_written(run: Callable[..., Result], network: Path, tmp_path: Path) -> None:
    """New connections have no weights, and other time steps were not trained for."""
    output = tmp_path / "none.snn.safetensors"
    for option in (["--backward", "1:1"], ["--steps", "9"]):
        result = run("schedule", network, "--pipelined", "-o", output, *option)
        assert result.exit_code == 2
        assert "drop --backward and --steps" in result.output
    assert not output.exists()
