"""The IDX format of MNIST and its relatives: bytes in an array of some axes, plain or gzipped.

Two zero bytes, the type (8: unsigned bytes), the number of axes, the length of each axis as a big-endian
32-bit number, then the values, last axis fastest.

Source: http://yann.lecun.com/exdb/mnist, "The IDX file format".
"""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path

import numpy as np

from snndeploy.errors import FileFormatError
from snndeploy.train.data.samples import Images

_BYTES = 8


def read_idx(path: Path, axes: int) -> Images:
    """Reads an IDX file of bytes.

    Args:
        path: Gzipped if its name ends in .gz.
        axes: How many it must have.

    Raises:
        FileFormatError: It cannot be read, is of another kind, or has more or less than it announces.
    """
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise FileFormatError(str(path), "cannot be read", got=error, remedy="get it again") from error
    header = 4 + 4 * axes
    if data[:4] != bytes((0, 0, _BYTES, axes)) or len(data) < header:
        raise FileFormatError(
            str(path), f"must be an IDX file of bytes in {axes} axes", got=f"first bytes {data[:4].hex(' ')}"
        )
    lengths = np.frombuffer(data, ">u4", axes, offset=4).tolist()
    if 0 in lengths or len(data) - header != math.prod(lengths):
        raise FileFormatError(
            str(path),
            f"must hold {' x '.join(map(str, lengths))} bytes after its header",
            got=len(data) - header,
            remedy="it is damaged or cut off: get it again",
        )
    return np.frombuffer(data, np.uint8, offset=header).reshape(lengths).copy()
