"""Numbers in docs/penalty.md and docs/recipes.md are those of the code and of the recipes."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from benchmarks.recipe_cost import cpu_days, gpu_hours, multiplications
from snndeploy.backbones import backbone
from snndeploy.ir import AvgPool2d, Graph
from snndeploy.ir.fanout import connections, psi, psi_total
from snndeploy.train.config import Config, PenaltyConfig
from snndeploy.train.data import fake
from snndeploy.train.model import build_graph
from snndeploy.train.penalty import Penalty

ROOT = Path(__file__).resolve().parent.parent
DOCS, CONFIGS = ROOT / "docs", ROOT / "configs"
SHAPES = {"resnet18_preact": (3, 32, 32), "vgg11": (3, 32, 32), "cnn7": (1, 28, 28)}
PUBLISHED = {"resnet18_preact": 553_730_048, "vgg11": 2_526_060_544, "cnn7": 98_895_888}
CNN7_NEURONS = 59_688

Row = Mapping[str, str]


def tables(name: str) -> list[list[Row]]:
    """All tables of a page, each a list of rows by column."""
    blocks = re.findall(r"(?:^\|.*\|\n)+", (DOCS / name).read_text(encoding="utf-8"), re.MULTILINE)
    found: list[list[Row]] = []
    for block in blocks:
        header, _, *rows = [
            [cell.strip() for cell in line[1:-2].split("|")] for line in block.splitlines(True)
        ]
        assert all(len(row) == len(header) for row in rows), block
        found.append([dict(zip(header, row, strict=True)) for row in rows])
    return found


def table(name: str, column: str, first: str = "") -> list[Row]:
    """The one table of a page that has a column, and in its first row, if asked for, some text."""
    (found,) = [rows for rows in tables(name) if column in rows[0] and first in " ".join(rows[0].values())]
    return found


def number(cell: str) -> float:
    """A number whose digits may be in groups of three."""
    return float(cell.replace(" ", ""))


def graph_of(name: str) -> Graph:
    """A network of the penalty paper, on the shape and with the classes of its table 1."""
    return backbone(name, SHAPES[name], 10)


def test_table_1_of_the_penalty_paper() -> None:
    """Neurons, layers, and synapses counted three ways; the published count beside them."""
    rows = table("penalty.md", "published E_SNN / E_AC")
    assert [row["network"].strip("`") for row in rows] == list(SHAPES)
    for row in rows:
        name = row["network"].strip("`")
        graph = graph_of(name)
        assert row["input"] == "x".join(map(str, SHAPES[name]))
        assert number(row["Omega_total: neurons"]) == sum(math.prod(graph.shapes[p]) for p in graph.ports)
        assert number(row["Omega_balance: layers"]) == len(graph.ports)
        assert number(row["psi, nominal"]) == psi_total(graph, "nominal")
        assert number(row["psi, exact"]) == psi_total(graph, "exact")
        assert number(row["psi, deployed"]) == psi_total(graph, "deployed")
        assert number(row["published E_SNN / E_AC"]) == PUBLISHED[name]
    assert psi_total(graph_of("resnet18_preact"), "nominal") == PUBLISHED["resnet18_preact"]


@pytest.mark.parametrize(("name", "first"), [("vgg11", "64x32x32"), ("cnn7", "64x13x13")])
def test_layer_by_layer(name: str, first: str) -> None:
    """Every layer of the two networks whose published count is another."""
    graph, rows = graph_of(name), table("penalty.md", "layer", first)
    nominal, exact = psi(graph, "nominal"), psi(graph)
    assert tuple(row["layer"].strip("`") for row in rows) == graph.ports
    for row, port in zip(rows, graph.ports, strict=True):
        assert row["shape"] == "x".join(map(str, graph.shapes[port]))
        assert number(row["neurons"]) == math.prod(graph.shapes[port])
        assert number(row["psi, nominal"]) == pytest.approx(nominal[port].sum(), rel=1e-12)
        assert number(row["psi, exact"]) == exact[port].sum()


def test_published_count_of_vgg11() -> None:
    """It is ours with each synapse behind a pool counted four times, to the last one."""
    graph, rows = graph_of("vgg11"), table("penalty.md", "pooled")
    for row in rows:
        follower = graph.outgoing[row["layer"].strip("`")][0].target
        if follower.startswith("dropout"):
            follower = graph.outgoing[follower][0].target
        pooled = isinstance(graph.ops[follower], AvgPool2d)
        assert row["pooled"] == ("yes" if pooled else "no")
        assert number(row["psi as published"]) == number(row["psi, nominal"]) * (4 if pooled else 1)
    assert sum(number(row["psi as published"]) for row in rows) == PUBLISHED["vgg11"]


def test_published_counts_of_cnn7_do_not_follow_from_its_table_5() -> None:
    """Square maps of sides a, b, c after convolutions 1, 2 and 3 (the others are 1x1): none fits both counts."""
    after_second, after_third = 64 * 128 * 6**2, 128 * (256 * 3**2) + 256 * 128 + 128 * 64 + 64 * 10 + 10 * 10
    graph = graph_of("cnn7")
    assert 8**2 * after_second + 6**2 * after_third == psi_total(graph, "nominal")
    assert 64 * 13**2 + 128 * 8**2 + (256 + 128 + 64 + 10) * 6**2 == 35_496
    sides = range(1, 64)
    assert not any(
        after_second * b**2 + after_third * c**2 == PUBLISHED["cnn7"] for b in sides for c in sides
    )
    fitting = [
        (a, b, c)
        for a in sides
        for b in sides
        for c in sides
        if 64 * a**2 + 128 * b**2 + 458 * c**2 == CNN7_NEURONS
    ]
    assert fitting == [(15, 15, 6), (16, 18, 2), (25, 5, 6)]
    assert all(b != a - 5 for a, b, _ in fitting), "a 6x6 kernel of stride 1 without padding"
    first = psi(graph)["lif1"]
    assert (first.max(), first.min(), round(first.mean())) == (4608, 128, 1745)


def test_normalised_intensities() -> None:
    """Eq. 20 for each network, and how much smaller our sum is than the published one."""
    for row in table("penalty.md", "lambda at lambda' = 1"):
        name = row["network"].strip("`")
        for column, intensity in (("lambda at lambda' = 1", 1.0), ("lambda at lambda' = 8192", 8192.0)):
            config = PenaltyConfig(intensity=intensity, normalised=True, psi="nominal")
            penalty = Penalty.from_config(config, graph_of(name), 1)
            assert number(row["Omega_syn(1), nominal, p = 1"]) == pytest.approx(penalty.largest, rel=1e-12)
            assert row[column] == f"{penalty.intensity(1.0):.2e}"
    ratios = [float(PUBLISHED[name] / psi_total(graph_of(name), "nominal")) for name in ("vgg11", "cnn7")]
    text = (DOCS / "penalty.md").read_text(encoding="utf-8")
    assert "{:.2f} and {:.2f} times ours".format(*ratios) in text


def test_every_recipe_is_listed_with_its_published_result() -> None:
    """The page links all files and no others; what it calls published stands at the head of the file, too."""
    rows = [row for rows in tables("recipes.md") if "recipe" in rows[0] for row in rows]
    linked = []
    for row in rows:
        match = re.fullmatch(r"\[(.+)\]\(\.\./configs/(.+)\)", row["recipe"])
        assert match is not None, row
        path = match.group(2)
        linked.append(path)
        assert match.group(1).removesuffix(".toml") == Path(path).stem
        head = (CONFIGS / path).read_text(encoding="utf-8").split("\n\n")[0].replace("\n#", " ")
        for column, cell in row.items():
            if column.startswith(("with", "published")):
                for value in re.findall(r"\d+\.\d+(?: ± \d+\.\d+)?", cell):
                    assert value in " ".join(head.split()), (path, value)
    assert sorted(linked) == sorted(str(path.relative_to(CONFIGS)) for path in CONFIGS.rglob("*.toml"))


def test_costs() -> None:
    """Multiplications are counted anew; days and hours follow from the row by what the page says."""
    recipes = [Config.from_file(path) for path in CONFIGS.glob("*/*.toml")]
    listed = set()
    for row in table("recipes.md", "GPU: hours"):
        network, steps = row["network"].strip("`"), int(row["T"])
        for name in row["data"].split(", "):
            config, *_ = (c for c in recipes if key_of(c) == (network, name, steps))
            listed.add(key_of(config))
            forward = steps * multiplications(build_graph(config.network, fake(config.data, 5).shape, 10))
            assert int(row["10^6 multiplications"]) == round(forward / 1e6)
            assert int(row["epochs"]) == config.optimizer.epochs
            assert number(row["GPU: hours"]) == pytest.approx(gpu_hours(config, forward), rel=0.06)
            training, preparing = (
                number(row[f"CPU: {part}, ms"]) / 1e3 for part in ("training", "preparing")
            )
            assert number(row["CPU: days"]) == pytest.approx(cpu_days(config, training, preparing), rel=0.06)
    assert listed == {key_of(config) for config in recipes}


def test_multiplications_are_nominal_synapses_where_nothing_is_pooled_or_added() -> None:
    """Those of the pre-activation ResNet18 are its nominal psi and the first layer, as the page says."""
    graph = graph_of("resnet18_preact")
    assert multiplications(graph) == PUBLISHED["resnet18_preact"] + 1_769_472
    assert connections(graph, "stem.conv") < 3 * 32 * 32 * 64 * 9 == 1_769_472
    text = (DOCS / "recipes.md").read_text(encoding="utf-8")
    assert "(553 730 048) and the first layer (1 769 472)" in text


def key_of(config: Config) -> tuple[str, str, int]:
    """What decides the cost of a recipe."""
    return config.network.backbone, config.data.name, config.network.steps
