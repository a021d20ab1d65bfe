"""What a search for backward connections came to, in words and in figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_PJ_PER_NJ = 1000
_SCORES = {"n": "N-score", "e": "E-score"}


def as_text(facts: Mapping[str, Any]) -> str:
    """A search in a few paragraphs."""
    parts = [_space(facts), _reliability(facts), _found(facts), _correlation(facts), _confirmation(facts)]
    seconds, seeds = facts["seconds"], facts["seeds"]
    spent = ", ".join(f"{stage} {value:.0f}" for stage, value in seconds.items())
    parts += [
        _fresh(facts.get("fresh_seeds")),
        _recommended(facts),
        f"seconds: {sum(seconds.values()):.0f} ({spent})\nseeds: search {seeds['search']}, data {seeds['data']}, "
        f"confirmation {', '.join(map(str, seeds['confirmation'])) or 'none'}",
        f"wrote search.json, {', '.join(facts['files'])} to {facts['run']}",
    ]
    return "\n\n".join(part for part in parts if part)


def _recommended(facts: Mapping[str, Any]) -> str:
    """What to take, why, and how to train it."""
    found, run, confirm = facts["recommendation"], facts["run"], facts["config"]["confirm"]
    best = found["architecture"]
    named = "no backward connections" if best == "none" else f"{best} (network.backward = {_quoted(facts)})"
    epochs = confirm["epochs"] or facts["config"]["training"]["optimizer"]["epochs"]
    lines = [f"recommended: {named}", f"  rule: {found['rule']}"]
    if not found["within_limits"]:
        lines.append("  it does not keep the energy limit, and nothing that keeps it was found to be better")
    lines.append(
        f"  train it from scratch, as it was confirmed (epochs: {epochs}): snndeploy train {run}/recommended.toml "
        "--out FOLDER"
    )
    if "found.snn.safetensors" in facts["files"]:
        lines.append(
            f"  an unconfirmed warm start of {facts['finalists'][0]}: snndeploy train {run}/found.toml "
            f"--from {run}/found.snn.safetensors --out FOLDER"
        )
    return "\n".join(lines)


def ablation_text(facts: Mapping[str, Any]) -> str:
    """The rows of an ablation with the published ones beside them."""
    from snndeploy.cli.output import table

    names = {"both": "E-score + N-score", "n": "N-score", "e": "E-score", "supernet": "one-shot", "": "-"}
    rows = [
        [
            row["name"],
            names[row["step1"]],
            names[row["step2"]],
            row["way"] or "-",
            row["candidates"] if row["name"] != "Baseline" else "-",
            row["found"],
            _gained(row["validation"], row["validation_gain"]),
            _gained(row["test"], row["test_gain"]),
            *(f"{value:.2f}" for value in row["published"]),
        ]
        for row in facts["rows"]
    ]
    headers = ["experiment", "step 1", "step 2", "search", "candidates", "found", "validation, %", "test, %"]
    published = [f"published T = {steps}, %" for steps in (4, 6)]
    return (
        table([*headers, *published], rows)
        + f"\nmeans over the confirmation seeds, in brackets less no backward connections; published: "
        f"{facts['published_of']}\nwrote ablation.json to {facts['run']}"
    )


def draw(facts: Mapping[str, Any], folder: Path) -> list[Path]:
    """Draws what was found on the backbone and, where accuracies were evaluated, how the search went."""
    from snndeploy import figures

    space, best = facts["space"], _row(facts, facts["finalists"][0])
    found, alone = _row(facts, facts["found"][0]), _row(facts, "none")
    ports = [(name, tuple(shape)) for name, shape in space["ports"]]
    drawn = figures.connections(
        ports,
        [tuple(connection) for connection in best["connections"]],
        folder,
        forward=[tuple(pair) for pair in space["forward"]],
        title=f"{'found' if facts['found'] != ['none'] else 'best with connections'}: {best['architecture']}",
    )
    if alone["accuracy"] is None:
        return drawn
    rows = facts["evaluated"]
    kind = "validation accuracy, weights of the supernet"
    drawn += figures.matrix(
        [figures.Evaluated(_pairs(row["connections"]), row["accuracy"]) for row in rows],
        [name for name, _ in ports],
        folder,
        baseline=alone["accuracy"],
        accuracy=f"{kind},\nof what the searches chose to evaluate,",
        allowed=_pairs(space["connections"]),
        found=_pairs(found["connections"]),
    )
    front = [place for place, row in enumerate(rows) if row["architecture"] in facts["pareto_front"]]
    drawn += figures.pareto(
        [figures.Point(row["accuracy"], row["estimated_energy_pj"], row["machine_steps"]) for row in rows],
        front,
        folder,
        accuracy=kind,
        baseline=rows.index(alone),
        found=rows.index(found),
    )
    curves = _curves(facts)
    if curves:
        drawn += figures.best_so_far(curves, folder, accuracy=kind, baseline=alone["accuracy"])
    return drawn


def _curves(facts: Mapping[str, Any]) -> list[Any]:
    """Best so far of both searches, from where the energy limit is kept for the first time."""
    from snndeploy.figures import Curve

    names = {"evolution": facts["config"]["evolution"]["method"], "random": "random search"}
    names["evolution"] = {"random": "random from the first population"}.get(
        names["evolution"], names["evolution"]
    )
    curves = []
    for key, values in facts["best_so_far"].items():
        known = [(place, value) for place, value in enumerate(values, 1) if value is not None]
        if known:
            curves.append(Curve(names[key], [place for place, _ in known], [value for _, value in known]))
    return curves


def _space(facts: Mapping[str, Any]) -> str:
    space, config = facts["space"], facts["config"]
    count = "an unknown number of" if space["architectures"] is None else f"{space['architectures']}"
    evaluated = f"{len(facts['evaluated'])} evaluated"
    if space["architectures"] is not None:
        evaluated += f" ({100 * len(facts['evaluated']) / space['architectures']:.3g} % of the space)"
    left_out = ", ".join(f"{number} for {why}" for why, number in space["left_out"].items() if number)
    return (
        f"space: {len(space['connections'])} backward connections over {len(space['ports'])} ports, {count} "
        f"architectures with at most {space['most']}{f' (left out: {left_out})' if left_out else ''}\n"
        f"mode {config['mode']}, objective {config['objective']}; {facts['scored']} scored, "
        f"{evaluated}"
    )


def _reliability(facts: Mapping[str, Any]) -> str:
    if facts["reliability"] is None:
        return ""
    from snndeploy.train.search.records import record
    from snndeploy.train.search.reliability import Reliability

    where = f"{facts['run']}/search.json, reliability"
    return "\n".join(record(Reliability, facts["reliability"], where).lines())


def _found(facts: Mapping[str, Any]) -> str:
    """What either search found, and no backward connections, as they were evaluated."""
    from snndeploy.cli.output import table

    name = facts["config"]["evolution"]["fitness"]
    fitness = "accuracy with the supernet's weights, %" if name == "supernet" else _SCORES[name]
    named = [("found*", one) for one in facts["found"] if one != "none"]
    named = named or [("best with BC*", one) for one in facts["finalists"]]
    named += [("random search*", one) for one in facts["random_found"]]
    rows = []
    for kind, one in [*named, ("no BC", "none")]:
        row = _row(facts, one)
        value, energy, error = row["fitness"], row["estimated_energy_pj"], row["standard_error"]
        shown = "-" if value is None else f"{value:.4g}"
        if row["accuracy"] is not None:
            shown = f"{100 * value:.2f} +- {100 * error:.2f}"
        nanojoules = "-" if energy is None else f"{energy / _PJ_PER_NJ:.4g}"
        costs = [row["interval"], row["machine_steps"], row["parameters"]]
        rows.append([kind, one, shown, nanojoules, *costs])
    headers = ["", "architecture", fitness, "energy, nJ ESTIMATED", "II", "machine steps", "parameters"]
    lines = [table(headers, rows)]
    if facts["found"] == ["none"]:
        lines.append(
            "no backward connections do at least as well by what was looked for; the best with some is confirmed "
            "all the same"
        )
    if name == "supernet":
        lines.append(
            f"* the best of {len(facts['evaluated'])} accuracies on the same samples: more than it is worth, as "
            "chance chose, too"
        )
    return "\n".join(lines)


def _correlation(facts: Mapping[str, Any]) -> str:
    found = facts["correlation"]
    if found is None:
        return ""
    names = {"supernet": "supernet", "n_score": "N-score", "e_score": "E-score"}
    values = [f"{names[key]} {_correlated(value)}" for key, value in found["spearman"].items()]
    count = len(found["architectures"])
    return (
        f"Spearman with the validation accuracy of {count} architectures trained from scratch (seed "
        f"{found['seed']}), in brackets 95 % intervals: {', '.join(values)}"
    )


def _confirmation(facts: Mapping[str, Any]) -> str:
    """The networks trained from scratch, compared seed by seed."""
    from snndeploy.cli.output import table

    found = facts["confirmation"]
    if found is None:
        return "not confirmed: confirm.seeds names none"
    rows = [
        [
            name,
            *(_percent([one["accuracy"] for one in networks[part]]) for part in ("validation", "test")),
            f"{networks['mean_energy_pj'] / _PJ_PER_NJ:.4g}{'' if networks['within_limits'] else ' (over the limit)'}",
        ]
        for name, networks in found["networks"].items()
    ]
    headers = ["trained from scratch", "validation accuracy, %", "test accuracy, %", "energy, nJ ESTIMATED"]
    lines = [table(headers, rows)]
    for one in found["comparisons"]:
        by = "" if one["found_by"] == "search" else f" ({one['found_by']})"
        lines.append(f"{one['architecture']}{by} less no BC, paired by seed:")
        lines += [f"  {part}: {_difference(one[part])}" for part in ("validation", "test")]
    return "\n".join([*lines, f"note: {found['note']}"])


def _fresh(found: Mapping[str, Any] | None) -> str:
    """The confirmation on seeds that nothing was chosen with."""
    if found is None:
        return ""
    seeds = found["seeds"]
    lines = [f"fresh seeds {seeds[0]} to {seeds[-1]}: {found['architecture']} less no BC, paired by seed:"]
    for part, compared in found["comparison"].items():
        ours, alone = (
            _percent([one["accuracy"] for one in found["networks"][name][part]])
            for name in (found["architecture"], "none")
        )
        lines.append(f"  {part}: {_difference(compared)}; accuracies {ours} and {alone} %")
    return "\n".join(lines)


def _difference(found: Mapping[str, Any]) -> str:
    interval = "no interval with fewer than two seeds"
    if found["low"] is not None:
        low, high = 100 * found["low"], 100 * found["high"]
        interval = f"{100 * found['confidence']:.4g} % interval {low:+.2f} to {high:+.2f}"
    return (
        f"{100 * found['mean']:+.2f} points, {interval}, wins {found['wins']} of {len(found['differences'])}, "
        f"Wilcoxon p = {found['wilcoxon_p']:.3g}"
    )


def _row(facts: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    (row,) = [row for row in facts["evaluated"] if row["architecture"] == name]
    return dict(row)


def _pairs(connections: Sequence[Sequence[int]]) -> tuple[tuple[int, int], ...]:
    return tuple((source, target) for source, target, _ in connections)


def _quoted(facts: Mapping[str, Any]) -> str:
    return "[" + ", ".join(f'"{one}"' for one in facts["recommendation"]["backward"]) + "]"


def _correlated(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return "unknown"
    if found["low"] is None:
        return f"{found['value']:+.2f} (no interval)"
    return f"{found['value']:+.2f} ({found['low']:+.2f} to {found['high']:+.2f})"


def _gained(value: float, gain: float) -> str:
    return f"{100 * value:.2f} ({100 * gain:+.2f})"


def _percent(values: Sequence[float]) -> str:
    from snndeploy.cli.summary import summary

    found = summary(values)
    spread = "" if found["std"] is None else f" +- {100 * found['std']:.2f}"
    return f"{100 * found['mean']:.2f}{spread}"
