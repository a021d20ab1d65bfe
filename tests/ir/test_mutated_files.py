"""Ten thousand mutated network files raise only our own errors."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np

from snndeploy.errors import SnnDeployError
from snndeploy.ir import (
    fingerprint,
    load,
    save,
)
from tests.ir.small_files import Arrays, exact, fresh, tiny, unpack, write

NASTY: list[Any] = [
    None,
    True,
    False,
    0,
    -1,
    1,
    3,
    10**9,
    2**31,
    10**25,
    10**400,
    0.5,
    -0.5,
    1e308,
    1e-320,
    "",
    "a",
    "in",
    "fc",
    "\ud800",
    "Lif",
    "Output",
    "exact",
    "frames",
    [],
    [[]],
    {},
    {"a": 1},
    [1, 1],
    ["a", "a", 0],
    ["a", "in", 1],
    [2**31 - 1] * 3,
    {"name": "z", "type": "Output"},
    {"name": "z", "type": "Lif", "tau": 0.5, "threshold": 1.0},
]
# fmt: on


def mutated(value: Any, rng: random.Random) -> Any:
    """A JSON value with one part replaced, removed, doubled or moved."""
    if isinstance(value, (list, dict)) and value and rng.random() < 0.85:
        keys: list[Any] = list(value) if isinstance(value, dict) else list(range(len(value)))
        key = rng.choice(keys)
        copy: Any = value.copy()
        match rng.randrange(20):
            case 0:
                del copy[key]
            case 1 if isinstance(copy, list):
                copy.insert(key, rng.choice([value[rng.choice(keys)], rng.choice(NASTY)]))
            case 1:
                copy[rng.choice([*keys, "name", "zz"])] = rng.choice(NASTY)
            case 2:
                other = rng.choice(keys)
                copy[key], copy[other] = copy[other], copy[key]
            case _:
                copy[key] = mutated(copy[key], rng)
        return copy
    if isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e300:
        return rng.choice([value + 1, value - 1, value * 2, -value, float(value), str(value)])
    return rng.choice(NASTY)


def try_to_load(path: Path) -> bool:
    """Whether a file loads; any error but ours fails the test. What loads can be saved and named again."""
    try:
        network = load(path)
    except SnnDeployError as error:
        return not str(error).encode()  # printable
    before = fingerprint(network)
    save(network, path)
    assert fingerprint(load(path)) == before
    return True


def test_four_thousand_files_with_mutated_bytes(tmp_path: Path) -> None:
    """Bytes changed, removed, doubled or moved: never loads, never raises anything but our errors."""
    rng = random.Random(0)  # noqa: S311 - mutations, no secrets
    path = tmp_path / "n"
    wholes = []
    for network in (tiny(), exact()):
        save(network, path)
        wholes.append(path.read_bytes())
    for index in range(4000):
        data = bytearray(wholes[index % 2])
        for _ in range(rng.choice([1, 1, 2, 8])):
            a, b = sorted(rng.randrange(len(data) + 1) for _ in range(2))
            match rng.randrange(5):
                case 0:
                    data[a : a + 1] = rng.randbytes(1)
                case 1:
                    del data[a : min(b, a + 20)]
                case 2:
                    data[a:a] = data[a : min(b, a + 20)]
                case 3:
                    data[a : a + 8] = rng.choice([bytes(8), b"\xff" * 8, rng.randbytes(8)])
                case _:
                    data[:8] = rng.choice([len(data), 2**31, 2**63, rng.randrange(400)]).to_bytes(8, "little")
        fresh(path, data)
        assert not try_to_load(path) or bytes(data) == wholes[index % 2]


def test_six_thousand_files_with_mutated_content(tmp_path: Path) -> None:
    """Documents and arrays changed and signed anew: what breaks a rule raises our errors, the rest loads."""
    rng = random.Random(1)  # noqa: S311 - mutations, no secrets
    path = tmp_path / "n"
    originals = []
    for network in (tiny(), exact()):
        save(network, path)
        originals.append(unpack(path))
    loaded = 0
    for index in range(6000):
        document, arrays = originals[index % 2]
        arrays = dict(arrays)
        for _ in range(rng.choice([1, 1, 2, 3])):
            if rng.random() < 0.8:
                document = mutated(document, rng)
            else:
                mutate_array(arrays, rng)
        text = json.dumps(document)
        if rng.random() < 0.2:
            place = rng.randrange(len(text))
            text = text[:place] + rng.choice(['"', "[", "{", "9", ",", "e9", "\\", "-"]) + text[place + 1 :]
        write(path, text, arrays)
        loaded += try_to_load(path)
    assert 100 < loaded < 5000, "some mutations are harmless, most are not"


def mutate_array(arrays: Arrays, rng: random.Random) -> None:
    """Changes, removes, renames, retypes or reshapes one array."""
    if not arrays:
        return
    numbers = [0, 1, -1, 64, 65, -65, 127, -128]
    name = rng.choice(list(arrays))
    array = arrays[name].copy()
    match rng.randrange(7):
        case 0:
            del arrays[name]
            return
        case 1:
            del arrays[name]
            name = rng.choice(["fc.weight", "fc.scale", "fc.weight/exponent", "/exponent", "", "\u00e9"])
        case 2:
            kinds = [np.int8, np.int32, np.float32, np.float64, np.uint8, np.bool_, np.float16]
            with np.errstate(all="ignore"):
                array = array.astype(rng.choice(kinds))
        case 3:
            array = rng.choice(
                [array[None], array.ravel()[:1], array.ravel()[0:0], array.reshape(-1), array[..., :1]]
            )
        case 4 if array.dtype == np.float32:
            array.flat[0:1] = rng.choice([np.nan, np.inf, -np.inf, 3e38, 1e-45, -0.0])
        case _:
            array.flat[0:1] = np.array(rng.choice(numbers)).astype(array.dtype)
    arrays[name] = np.ascontiguousarray(array)
