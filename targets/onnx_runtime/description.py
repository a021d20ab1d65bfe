"""What an exported file says about itself, every value checked."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, cast

from snndeploy.errors import FileFormatError, SnnDeployError
from snndeploy.inputs import InputSpec

FORMAT_VERSION = 2
PREFIX = "snndeploy."
_FORMS = ("step", "sequence", "scan")
_ARITHMETICS = ("float32", "integer", "float16")
_ELEMENTS = {True: ("float32", "int32"), False: ("float32",)}  # by whether the state is a membrane
_MOST_STEPS = 100_000
_MOST_VALUES = 2**31  # of all states of one sample, 8 GiB

Form: TypeAlias = Literal["step", "sequence", "scan"]
Arithmetic: TypeAlias = Literal["float32", "integer", "float16"]
Element: TypeAlias = Literal["float32", "int32"]
Shape: TypeAlias = "tuple[int, ...]"


@dataclass(frozen=True)
class State:
    """What a network hands from one call to the next; zero before the first.

    input: Name of the graph input, and the state's own.
    output: Name of the graph output.
    op: The op it belongs to.
    kind: "membrane" (the potential after the reset) or "delayed" (the op's output some steps ago).
    delay: How many steps ago; 0 for membranes.
    shape: Without batch.
    dtype: "float32", or "int32" for a membrane that is a whole number of its unit.
    in_place: Whether one buffer may serve as both input and output.
    """

    input: str
    output: str
    op: str
    kind: str
    delay: int
    shape: Shape
    dtype: Element
    in_place: bool


@dataclass(frozen=True)
class Neuron:
    """A layer of neurons: its name, parameters, shape without batch, and the values that hold its spikes.

    spikes: In the order of time; one where a single value holds all steps, or the form is one step.
    """

    name: str
    tau: float
    threshold: float
    shape: Shape
    spikes: tuple[str, ...]


@dataclass(frozen=True)
class Description:
    """What an exported file says about itself.

    form: One time step, a sequence of all steps, or any number of steps.
    arithmetic: What the file computes in.
    steps: Logical time steps of one sample.
    readout: The logits are the mean over the last `readout` steps.
    input: How raw data becomes input.
    classes: Names of the classes; may be empty.
    states: Empty in the sequence form.
    neurons: Every Lif.
    number_format: "float32", "exact" or "loihi", of the network that was exported.
    certified: Whether the exporter proved that every sum is exact.
    network_sha256: Fingerprint of that network; may be empty.
    """

    form: Form
    arithmetic: Arithmetic
    steps: int
    readout: int
    input: InputSpec
    classes: tuple[str, ...]
    states: tuple[State, ...]
    neurons: tuple[Neuron, ...]
    number_format: str
    certified: bool
    network_sha256: str


def describe(metadata: Mapping[str, str], where: str) -> Description:
    """The description in a model's metadata.

    Raises:
        FileFormatError: They are not snndeploy's, are of another version, or are damaged.
    """
    found = {key.removeprefix(PREFIX): text for key, text in metadata.items() if key.startswith(PREFIX)}
    version = found.get("format_version")
    if version is None:
        raise FileFormatError(where, "was not exported by snndeploy")
    if version != str(FORMAT_VERSION):
        raise FileFormatError(
            where,
            f"must have format version {FORMAT_VERSION}",
            got=repr(version),
            remedy="export the network again, or use the snndeploy that wrote it",
        )
    try:
        return _described(found)
    except _DamagedError as error:
        reason = str(error)
    except SnnDeployError as error:  # of the input description
        reason = str(error)
    except KeyError as error:
        reason = f"{error} is missing"
    except (ValueError, OverflowError, RecursionError) as error:  # of json and int
        reason = f"{type(error).__name__}: {error}"
    raise FileFormatError(where, "has damaged metadata", got=reason[:300])


class _DamagedError(Exception):
    """A value is not what the format has in its place."""


def _described(found: Mapping[str, str]) -> Description:
    form, arithmetic = found["form"], found["arithmetic"]
    if form not in _FORMS or arithmetic not in _ARITHMETICS:
        raise _DamagedError(f"form {form!r}, arithmetic {arithmetic!r}")
    steps = _number("steps", found["steps"], 1, _MOST_STEPS)
    states = tuple(_state(entry) for entry in _list("states", json.loads(found["states"])))
    if sum(math.prod(state.shape) for state in states) > _MOST_VALUES:
        raise _DamagedError(f"states of more than {_MOST_VALUES} values")
    neurons = tuple(_neuron(entry) for entry in _list("neurons", json.loads(found["neurons"])))
    for names in ([s.input for s in states], [s.output for s in states], [n.name for n in neurons]):
        if len(set(names)) != len(names):
            raise _DamagedError("a name that stands twice")
    if form == "sequence" and states:
        raise _DamagedError(f"{len(states)} states in form {form!r}")
    return Description(
        form=cast("Form", form),
        arithmetic=cast("Arithmetic", arithmetic),
        steps=steps,
        readout=_number("readout", found["readout"], 1, steps),
        input=InputSpec.from_json(json.loads(found["input"])),
        classes=tuple(_text("class", c) for c in _list("classes", json.loads(found["classes"]))),
        states=states,
        neurons=neurons,
        number_format=found["number_format"],
        certified=_certified(json.loads(found["certificate"])),
        network_sha256=found.get("network_sha256", ""),
    )


def _certified(value: Any) -> bool:
    holds = value is not None and _object("certificate", value)["holds"]
    if not isinstance(holds, bool):
        raise _DamagedError(f"certificate {value!r:.80}")
    return holds


def _state(entry: Any) -> State:
    fields = _object("state", entry)
    if fields["dtype"] not in _ELEMENTS[fields["kind"] == "membrane"] or fields["init"] != 0:
        raise _DamagedError(f"a state of {fields['dtype']!r} that begins at {fields['init']!r}")
    if not isinstance(fields["in_place"], bool) or fields["kind"] not in ("membrane", "delayed"):
        raise _DamagedError(f"a state of kind {fields['kind']!r}, in place {fields['in_place']!r}")
    return State(
        input=_text("name", fields["in"]),
        output=_text("name", fields["out"]),
        op=_text("op", fields["op"]),
        kind=fields["kind"],
        delay=_whole("delay", fields["delay"], 0),
        shape=_shape(fields["shape"]),
        dtype=fields["dtype"],
        in_place=fields["in_place"],
    )


def _neuron(entry: Any) -> Neuron:
    fields = _object("neuron", entry)
    spikes = fields["spikes"]
    return Neuron(
        name=_text("name", fields["name"]),
        tau=_real("tau", fields["tau"]),
        threshold=_real("threshold", fields["threshold"]),
        shape=_shape(fields["shape"]),
        spikes=tuple(
            _text("spikes", s) for s in _list("spikes", [spikes] if isinstance(spikes, str) else spikes)
        ),
    )


def _shape(value: Any) -> Shape:
    """A shape without its batch, which stands first as -1."""
    sizes = _list("shape", value)
    if not sizes or sizes[0] != -1 or len(sizes) > 8:
        raise _DamagedError(f"shape {value!r:.80}")
    shape = tuple(_whole("size", size, 1) for size in sizes[1:])
    if math.prod(shape) > _MOST_VALUES:
        raise _DamagedError(f"shape {value!r:.80}")
    return shape


def _number(name: str, text: str, low: int, high: int) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 9 or not low <= int(text) <= high:
        raise _DamagedError(f"{name} {text!r:.80}, not in [{low}, {high}]")
    return int(text)


def _whole(name: str, value: Any, low: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= _MOST_VALUES:
        raise _DamagedError(f"{name} {value!r:.80}")
    return value


def _real(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < 2.0**128:
        raise _DamagedError(f"{name} {value!r:.80}")
    return float(value)


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise _DamagedError(f"{name} {value!r:.80}")
    return value


def _list(name: str, value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise _DamagedError(f"{name} {value!r:.80}")
    return value


def _object(name: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _DamagedError(f"{name} {value!r:.80}")
    return cast("dict[str, Any]", value)
