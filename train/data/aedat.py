"""Recordings of event cameras: AEDAT 2.0 of a DVS128, read here, and AEDAT 4, read by tonic.

AEDAT 2.0 is text lines that begin with '#', the first of them "#!AER-DAT2.0", then events of two big-endian
32-bit numbers, an address and a time in microseconds. In the address of a DVS128, bit 0 is 0 for ON and 1 for
OFF, bits 1 to 7 count one axis, bits 8 to 14 the other, and bit 15 marks what is no event of a pixel.

CIFAR10-DVS was filmed with the camera on its side, so bits 8 to 14 are the columns and bits 1 to 7 the rows of
the upright image, both from the far end.

Sources: the AEDAT file formats of iniVation; jAER's DVS128 for the bits; SpikingJelly's CIFAR10DVS for which way
is up (its comment names events-tfds #1).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from snndeploy.errors import ConfigError, FileFormatError

SENSOR = 128  # pixels each way
_MAGIC = b"#!AER-DAT2.0"
_NO_PIXEL = 0x8000


@dataclass(frozen=True, eq=False)
class Events:
    """Events in the order of their times.

    rows, columns: Of the upright image, 0 to 127.
    on: Whether the pixel became brighter.
    """

    rows: npt.NDArray[np.int64]
    columns: npt.NDArray[np.int64]
    on: npt.NDArray[np.bool_]


def read_events(path: Path) -> Events:
    """Reads a recording: AEDAT 4 if its name ends in .aedat4, else AEDAT 2.0.

    Raises:
        ConfigError: It is AEDAT 4 and tonic is not installed.
        FileFormatError: It is damaged or of another kind.
    """
    return _read_aedat4(path) if path.suffix == ".aedat4" else _read_aedat2(path)


def import_tonic(purpose: str) -> Any:
    """The package tonic.

    Args:
        purpose: What it is needed for.

    Raises:
        ConfigError: It is not installed.
    """
    try:
        import tonic  # noqa: PLC0415  (an extra)
        import tonic.datasets  # noqa: PLC0415
        import tonic.io  # noqa: PLC0415
    except ImportError as error:
        raise ConfigError(
            "tonic",
            f"is needed {purpose} and cannot be imported",
            got=error,
            remedy="install snndeploy[events]; or unpack the original .aedat recordings, which need no tonic",
        ) from error
    return tonic


def _read_aedat2(path: Path) -> Events:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise FileFormatError(str(path), "cannot be read", got=error.strerror) from error
    if not data.startswith(_MAGIC):
        raise FileFormatError(str(path), f"must begin with {_MAGIC.decode()}", got=repr(data[: len(_MAGIC)]))
    start = 0
    while data[start : start + 1] == b"#":
        start = data.find(b"\n", start) + 1 or len(data)
    if (len(data) - start) % 8:
        raise FileFormatError(
            str(path), "must hold whole events of 8 bytes", got=f"{len(data) - start} bytes after the header"
        )
    words = np.frombuffer(data, ">u4", offset=start).reshape(-1, 2).astype(np.int64)
    address, time_us = words[(words[:, 0] & _NO_PIXEL) == 0].T
    address = address[np.argsort(time_us, kind="stable")]
    last = SENSOR - 1
    return Events(
        rows=last - (address >> 1 & last), columns=last - (address >> 8 & last), on=(address & 1) == 0
    )


def _read_aedat4(path: Path) -> Events:
    """As tonic's file of the data set has it: fields in the order time, x, y, polarity (true for ON)."""
    tonic = import_tonic(f"to read {path.name}, which is AEDAT 4,")
    try:
        events = tonic.io.read_aedat4(str(path))
        time_us, columns, rows, on = (np.asarray(events[name]) for name in events.dtype.names)
    except Exception as error:  # its decoder raises bare exceptions
        raise FileFormatError(str(path), "cannot be read as AEDAT 4", got=error) from error
    if len(events) and max(columns.max(), rows.max()) >= SENSOR:
        raise FileFormatError(str(path), f"must be of a {SENSOR}x{SENSOR} sensor")
    order = np.argsort(time_us, kind="stable")
    return Events(rows[order].astype(np.int64), columns[order].astype(np.int64), on[order].astype(np.bool_))
