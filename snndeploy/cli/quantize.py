"""`snndeploy quantize`: a float32 network in the exact or the loihi format, and what that did to it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from snndeploy.cli.options import json_option, network_argument

if TYPE_CHECKING:
    from snndeploy.cli.networks import Samples
    from snndeploy.ir import Network
    from snndeploy.ir.quantize.posttraining import FormatName, Granularity

_ALL = 1_000_000  # samples; more than any data set here has to test with


@click.command(
    epilog="Example: snndeploy quantize runs/demo/float32.snn.safetensors --format loihi -o loihi.snn.safetensors"
)
@network_argument
@click.option(
    "--format",
    "form",
    type=click.Choice(["exact", "loihi"]),
    required=True,
    help="exact: the same bits in every back end, for short samples; loihi: neurons as Loihi's, any number of steps.",
)
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="The file to write.")
@click.option(
    "--bits", type=click.IntRange(2, 8), default=8, show_default=True, help="Of a weight, sign included."
)
@click.option(
    "--granularity",
    type=click.Choice(["channel", "layer"]),
    default=None,
    help="A power of two for each output channel, or one for all of a layer, so that its neurons share one "
    "threshold in the loihi format.  [default: channel for exact, layer for loihi]",
)
@click.option(
    "--data",
    default="auto",
    show_default=True,
    metavar="NAME|FILE",
    help="Samples to calibrate with: 'digits' (training images of the split with seed 0), 'random' (seeded noise), "
    "'auto' (digits if they fit the network, else random), or a .npy file of raw samples: (samples, *shape), for "
    "frames (samples, time, *shape).",
)
@click.option(
    "--samples",
    type=click.IntRange(min=1),
    default=128,
    show_default=True,
    help="Number of samples to calibrate with at most.",
)
@json_option
def quantize(
    network: Path,
    form: FormatName,
    output: Path,
    bits: int,
    granularity: Granularity | None,
    data: str,
    samples: int,
    as_json: bool,
) -> None:
    """Put the float32 NETWORK into a format of few-bit weights that hardware and all back ends agree on."""
    from snndeploy.cli.networks import load_folded
    from snndeploy.cli.output import emit_json, say
    from snndeploy.errors import ConfigError
    from snndeploy.ir import format_difference, layer_reports, save
    from snndeploy.ir import quantize as put_into_format
    from snndeploy.ir.quantize.posttraining import DEFAULT_GRANULARITY

    source = load_folded(network)
    if output.exists() and output.samefile(network):
        raise ConfigError("--output", "names the network file itself", remedy="choose another path")
    picked = _calibration(source, data, samples)
    say(f"calibrating with {picked.count} samples of {picked.name}")
    found = put_into_format(source, picked.x, format=form, bits=bits, granularity=granularity)
    layers = layer_reports(source, found, picked.x)
    save(found.network, output)
    facts: dict[str, Any] = {
        "network": str(network),
        "file": str(output),
        "number_format": form,
        "bits": bits,
        "granularity": granularity or DEFAULT_GRANULARITY[form],
        "calibration": {"data": picked.name, "samples": picked.count},
        "layers": [layer.to_json() for layer in layers],
        "format_difference": format_difference(found.network) or None,
        "accuracy": _accuracy(source, found.network),
    }
    if as_json:
        emit_json(facts)
    else:
        click.echo(as_text(facts))


def _calibration(network: Network, data: str, count: int) -> Samples:
    """Samples to calibrate with: of digits the training images, which no accuracy is reported on.

    Raises:
        ConfigError: The data are unknown.
        NetworkError: They do not fit the network.
    """
    from snndeploy.cli.networks import Samples, load_samples
    from snndeploy.train.data import digits

    picked = load_samples(network, data, count)
    if picked.labels is None:
        return picked
    train = digits(repeat=network.input.repeat).train.take(slice(0, count))
    x = network.input.prepare(train.images)
    return Samples(x, train.labels, "digits (training images of split 0)", len(train))


def _accuracy(before: Network, after: Network) -> dict[str, Any] | None:
    """Accuracy of both networks on the test images; None where no labels are known."""
    from snndeploy.cli.networks import load_samples
    from snndeploy.ir import run

    test = load_samples(before, "auto", 1)
    if test.labels is None:
        return None
    test = load_samples(before, "auto", _ALL)
    answers = [run(network, test.x).logits.argmax(axis=1) for network in (before, after)]
    return {
        "data": test.name,
        "samples": test.count,
        "before": float((answers[0] == test.labels).mean()),
        "after": float((answers[1] == test.labels).mean()),
        "same_answers": float((answers[0] == answers[1]).mean()),
    }


def as_text(facts: Mapping[str, Any]) -> str:
    """What quantising did, layer by layer, and what it came to."""
    from snndeploy.cli.output import table

    headers = ["into", "k", "clipped", "weights", "current", "bits left", "rate", "quantised"]
    rows = [
        [
            layer["op"],
            _span(layer["exponents"]),
            f"{layer['clipped'] / layer['size']:.2%}" if layer["size"] else "-",
            f"{layer['weight_error']:.2%}",
            f"{layer['current_error']:.2%}",
            round(layer["bits_left"], 1),
            "-" if layer["rate"] is None else f"{layer['rate']:.2%}",
            "-" if layer["rate"] is None else f"{layer['quantized_rate']:.2%}",
        ]
        for layer in facts["layers"]
    ]
    lines = [table(headers, rows), ""]
    if any(layer["registers"] for layer in facts["layers"]):
        lines += [_registers(facts["layers"]), ""]
    if (tested := facts["accuracy"]) is not None:
        lines.append(
            f"accuracy {tested['before']:.2%} before, {tested['after']:.2%} after, {tested['same_answers']:.2%} of the "
            f"answers the same, on {tested['samples']} samples of {tested['data']}"
        )
    other = {"exact": "loihi", "loihi": "exact"}[facts["number_format"]]
    problem, used = facts["format_difference"], facts["calibration"]
    lines += [
        f"certified; as {other}, the same weights may compute something else: {problem}"
        if problem
        else f"certified; as {other}, the same weights compute the same, bit for bit",
        f"wrote {facts['file']} ({facts['number_format']}, {facts['bits']} bits, a grid for each "
        f"{facts['granularity']}), calibrated with {used['samples']} samples of {used['data']}",
    ]
    return "\n".join(lines)


def _registers(layers: list[Mapping[str, Any]]) -> str:
    """What the neurons of a loihi network are programmed with."""
    from snndeploy.cli.output import table

    rows = [
        [
            layer["op"],
            _span(found["grid_bits"]),
            _span(found["threshold"]),
            f"{found['threshold_change']:+.2%}",
            found["decay"],
            f"{found['tau_change']:+.2g}",
            _span(found["bias_exponent"]),
        ]
        for layer in layers
        if (found := layer["registers"])
    ]
    return table(["population", "g", "vth", "threshold", "dv", "tau", "bias exponent"], rows)


def _span(ends: tuple[int, int] | None) -> str:
    """The smallest and the largest of a register or exponent, as one number where they are equal."""
    if ends is None:
        return "-"
    return str(ends[0]) if ends[0] == ends[1] else f"{ends[0]} to {ends[1]}"
