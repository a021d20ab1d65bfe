"""docs/lava.md: its script runs without snndeploy and Lava, and its tables are complete."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from snndeploy import ir
from snndeploy.export import lava as lowering
from tests.export.networks import Case, case, overlapping, residual
from tests.targets.test_lava_bundle import rewrite

DOCS = Path(__file__).resolve().parents[2] / "docs"
SCRIPT = DOCS / "read_bundle.py"
PAGE = (DOCS / "lava.md").read_text(encoding="utf-8")


@pytest.fixture
def tested() -> Case:
    """A residual network, whose readout has a pool, in the loihi format."""
    made = case(residual(), steps=5, readout=3, seed=1)
    return Case(ir.quantize(made.network, made.x, format="loihi").network, made.x)


@pytest.fixture
def bundle(tested: Case, tmp_path: Path) -> Path:
    """Its bundle."""
    return lowering.export(tested.network, tmp_path / "bundle", tested.x, fingerprint="abc")


def read(bundle: Path) -> subprocess.CompletedProcess[str]:
    """Runs the script where importing snndeploy or Lava raises."""
    barrier = "import sys, runpy; sys.modules.update(dict.fromkeys(('snndeploy', 'lava'))); sys.argv = sys.argv[1:]; "
    program = f"{barrier}runpy.run_path(sys.argv[0], run_name='__main__')"
    command = [sys.executable, "-I", "-W", "error", "-c", program, str(SCRIPT), str(bundle)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_script(tested: Case, bundle: Path) -> None:
    """Thirty lines print the form, the schedule, every population with its firing rate, and check the readout."""
    found = read(bundle)
    assert found.returncode == 0, found.stderr
    first, *populations, last = found.stdout.splitlines()
    assert first.startswith("fused loihi {'name': 'scheduled', 'initiation_interval': 1")
    spikes = ir.run(tested.network, tested.x).spikes
    assert [line.split()[1] for line in populations] == ["input", *spikes, "output"]
    rates = [re.findall(r"fires at (.*)", line) for line in populations]
    assert rates == [[], *([f"{train.mean():.1%}"] for train in spikes.values()), []]
    assert last == "readout as expected: True"
    assert len(SCRIPT.read_text(encoding="utf-8").splitlines()) <= 30


def test_script_notices_a_wrong_readout(bundle: Path) -> None:
    """It does compute: sums that are off by one, hashed all the same, are not as expected."""
    file = bundle / "expected.npz"
    with np.load(file) as arrays:
        np.savez(file, **{**arrays, "readout_sum": arrays["readout_sum"] + 1})
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    rewrite(bundle, lambda manifest: manifest["files"].update({file.name: digest}))
    found = read(bundle)
    assert found.returncode == 0, found.stderr
    assert found.stdout.endswith("readout as expected: False\n")


@pytest.mark.parametrize("name", ["manifest.json", "weights.npz", "samples.npy", "expected.npz"])
def test_script_notices_damage(name: str, bundle: Path) -> None:
    """One changed byte in any file makes it end with an exit code other than 0, and name the file."""
    data = bytearray((bundle / name).read_bytes())
    place = data.index(b'"steps": 5') + 9 if name == "manifest.json" else len(data) - 30
    data[place] ^= 1
    (bundle / name).write_bytes(data)
    found = read(bundle)
    assert found.returncode != 0
    assert found.stderr == f"damaged: ['{name}']\n"


def rows(heading: str) -> dict[str, str]:
    """The rows of the table that follows some words."""
    table = PAGE.split(heading)[1].lstrip().split("\n\n")[0]
    return dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", table, re.MULTILINE))


def test_tables(tested: Case, bundle: Path, tmp_path: Path) -> None:
    """Every entry that an export writes is on the page, and no other."""
    manifest: dict[str, Any] = json.loads((bundle / "manifest.json").read_text())
    listed = rows("### Manifest\n\n")
    assert set(listed) == {*manifest, "stock"}
    assert listed["version"] == f"`{manifest['version']}`"
    for entry in ("schedule", "input"):
        assert set(re.findall(r"`(\w+)`", listed[entry])) == set(manifest[entry])
    looped = case(overlapping(), steps=4)
    other = lowering.export(looped.network, tmp_path / "other", looped.x)
    populations = [
        *manifest["populations"],
        *json.loads((other / "manifest.json").read_text())["populations"],
    ]
    listed = rows("A population has:\n\n")
    assert set(listed) == {key for population in populations for key in population}
    for key, kept in (
        ("arrivals", lambda p: p["arrivals"]),
        ("registers", lambda p: [p.get("registers", {})]),
    ):
        found = {name for population in populations for entry in kept(population) for name in entry}
        assert found <= set(re.findall(r"`(\w+)`", listed[key]))
    steps = [step for population in populations for step in population["program"]]
    stock = lowering.export(tested.network, tmp_path / "stock", tested.x, form="stock")
    document = json.loads((stock / "manifest.json").read_text())["stock"]
    assert set(rows("these arrays.\n\n")) == set(document)
    told = PAGE.split("### Stock")[1].split("##")[0]
    synapses = [synapse for population in document["populations"] for synapse in population["synapses"]]
    names = {name for entry in (*document["populations"], *synapses, document["output"]) for name in entry}
    assert names <= set(re.findall(r"`(\w+)`", told))
    for key in ("name", "type", "sources", "exponents"):
        assert any(key in step for step in steps)
        assert f"`{key}`" in listed["program"]
