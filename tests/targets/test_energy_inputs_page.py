"""The examples of docs/energy-inputs.md work as they stand."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from snndeploy.ir import Op
from snndeploy.ir.fanout import psi
from snndeploy.targets.given import count_given, read_graph

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "energy-inputs.md").read_text(encoding="utf-8")


def block(language: str) -> str:
    """The one code block of a language."""
    (found,) = re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    return str(found)


def test_the_example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The graph is read, the program writes both files, and they count as the table says."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "graph.json").write_text(block("json"))
    exec(block("python"), {})  # noqa: S102  (the page's own example)
    by_step = count_given(tmp_path / "graph.json", tmp_path / "spikes.npz")
    over_time = count_given(tmp_path / "graph.json", tmp_path / "counts.npz")
    graph, _, steps = read_graph(tmp_path / "graph.json")
    assert steps is None
    with np.load(tmp_path / "counts.npz") as archive:
        expected = (psi(graph)["lif"] * archive["counts/lif"]).sum(axis=(1, 2, 3))
    np.testing.assert_array_equal(by_step.synaptic_operations, expected)
    np.testing.assert_array_equal(over_time.synaptic_operations, expected)
    assert (by_step.samples, by_step.neuron_updates) == (20, over_time.neuron_updates)
    assert (by_step.driven is None, over_time.driven is None) == (False, True)
    assert by_step.effective_mac_operations() is None


def test_the_types_are_those_of_graphs() -> None:
    """Every op is named with its fields."""
    named = {op["type"]: set(op) - {"name", "type"} for op in json.loads(block("json"))["ops"]}
    for kind, listed in re.findall(r"`(\w+)`\s\(((?:`\w+`(?:, )?)+)\)", PAGE):
        named[kind] = set(re.findall(r"\w+", listed))
    assert named == {op.__name__: {field.name for field in fields(op)} for op in get_args(Op)}
