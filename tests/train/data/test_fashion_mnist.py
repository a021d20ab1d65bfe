"""Fashion-MNIST from IDX files: read, refused when damaged, downloaded."""

from __future__ import annotations

import gzip
import hashlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from torchvision.datasets import FashionMNIST

from snndeploy.errors import ConfigError, FileFormatError
from snndeploy.train.config import DataConfig
from snndeploy.train.data import load
from snndeploy.train.data.fashion_mnist import read
from snndeploy.train.data.idx import read_idx
from tests.train.data.conftest import Server

NAMES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


def idx(values: npt.NDArray[np.uint8]) -> bytes:
    """An array of bytes in the IDX format."""
    lengths = b"".join(length.to_bytes(4, "big") for length in values.shape)
    return bytes((0, 0, 8, values.ndim)) + lengths + values.tobytes()


def write(folder: Path, train: int = 30, test: int = 10, *, zipped: bool = True) -> dict[str, Path]:
    """Writes the four files, with labels 0, 1, .. 9, 0, .. and random pixels."""
    raw = folder / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    rng = np.random.default_rng(0)
    paths = {}
    for name in NAMES:
        count = train if name.startswith("train") else test
        values = np.arange(count, dtype=np.uint32).astype(np.uint8) % np.uint8(10)
        if "images" in name:
            values = rng.integers(0, 256, (count, 28, 28)).astype(np.uint8)
        paths[name] = raw / (f"{name}.gz" if zipped else name)
        paths[name].write_bytes(gzip.compress(idx(values), 1) if zipped else idx(values))
    return paths


@pytest.mark.parametrize("zipped", [True, False])
def test_images_and_labels_are_read(tmp_path: Path, zipped: bool) -> None:
    """Pixels and labels as written, one channel, plain or gzipped."""
    paths = write(tmp_path, zipped=zipped)
    parts = read(DataConfig(name="fashion_mnist", folder=str(tmp_path)), train=30, test=10)
    assert parts.train.images.shape == (30, 1, 28, 28)
    assert parts.train.labels.tolist() == list(range(10)) * 3
    content = paths["t10k-images-idx3-ubyte"].read_bytes()
    assert parts.test.images.tobytes() == (gzip.decompress(content) if zipped else content)[16:]
    assert parts.test.labels.dtype == np.int64
    assert parts.classes[9] == "Ankle boot"
    assert parts.train.images.flags.writeable


def test_whole_data_set_is_split_as_in_the_paper(tmp_path: Path) -> None:
    """54 000 / 6 000 / 10 000 with equal classes, disjoint; normalised, and augmented by RandAugment."""
    raw = tmp_path / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for name, count in (("train", 60_000), ("t10k", 10_000)):
        images = np.zeros((count, 28, 28), np.uint8)
        images[:, 0, :4] = np.arange(count, dtype=">u4").view(np.uint8).reshape(-1, 4)  # its number
        (raw / f"{name}-images-idx3-ubyte").write_bytes(idx(images))
        labels = (np.arange(count) // (count // 10)).astype(np.uint8)
        (raw / f"{name}-labels-idx1-ubyte").write_bytes(idx(labels))
    data = load(DataConfig(name="fashion_mnist", folder=str(tmp_path)))
    assert [len(part) for part in (data.train, data.validation, data.test)] == [54_000, 6_000, 10_000]
    assert np.bincount(data.validation.labels).tolist() == [600] * 10
    numbers = [
        np.ascontiguousarray(part.images[:, 0, 0, :4]).view(">u4").ravel()
        for part in (data.train, data.validation)
    ]
    assert sorted(np.concatenate(numbers).tolist()) == list(range(60_000))
    assert (numbers[0] // 6_000 == data.train.labels).all()
    assert data.shape == (1, 28, 28)
    assert data.input.low == np.round(-0.2860 / 0.3530 * 256) / 256
    assert [change.__name__ for change in data.augment] == ["randaugment"]


def test_missing_files_say_how_to_get_them(tmp_path: Path) -> None:
    """The folder, the page, the setting that downloads, and what must then stand where."""
    with pytest.raises(ConfigError) as error:
        load(DataConfig(name="fashion_mnist", folder=str(tmp_path)))
    message = str(error.value)
    for part in (
        "data.folder: holds no fashion_mnist",
        f"{tmp_path}/FashionMNIST/raw/train-images-idx3-ubyte.gz",
        "--set data.download=true",
        "https://github.com/zalandoresearch/fashion-mnist",
    ):
        assert part in message


def damage(content: bytes, how: str) -> bytes:
    """A file of images as it must not be."""
    plain = gzip.decompress(content)
    match how:
        case "cut gzip":
            return content[:-20]
        case "no gzip":
            return plain
        case "cut":
            return gzip.compress(plain[:-1])
        case "longer":
            return gzip.compress(plain + b"\0")
        case "floats":
            return gzip.compress(b"\0\0\x0d\x03" + plain[4:])
        case "axes":
            return gzip.compress(b"\0\0\x08\x01" + plain[4:])
        case "header":
            return gzip.compress(plain[:9])
        case _:
            return b""


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("cut gzip", "cannot be read"),
        ("no gzip", "cannot be read"),
        ("cut", "must hold 30 x 28 x 28 bytes after its header, got 23519"),
        ("longer", "must hold 30 x 28 x 28 bytes after its header, got 23521"),
        ("floats", "must be an IDX file of bytes in 3 axes, got first bytes 00 00 0d 03"),
        ("axes", "must be an IDX file of bytes in 3 axes"),
        ("header", "must be an IDX file of bytes in 3 axes"),
        ("empty", "must be an IDX file of bytes|cannot be read"),
    ],
)
def test_damaged_files_are_named(tmp_path: Path, how: str, message: str) -> None:
    """Cut off, of another type, or no such file at all: the error names the file."""
    path = write(tmp_path)["train-images-idx3-ubyte"]
    path.write_bytes(damage(path.read_bytes(), how))
    with pytest.raises(FileFormatError, match=rf"train-images-idx3-ubyte\.gz: .*({message})"):
        read(DataConfig(name="fashion_mnist", folder=str(tmp_path)), train=30, test=10)


def test_wrong_counts_and_labels_are_refused(tmp_path: Path) -> None:
    """Another number of images than the data set has, labels without images, classes there are not."""
    paths = write(tmp_path)
    config = DataConfig(name="fashion_mnist", folder=str(tmp_path))
    with pytest.raises(FileFormatError, match="train files must hold 60000 images of 28x28"):
        load(config)
    labels = paths["t10k-labels-idx1-ubyte"]
    labels.write_bytes(gzip.compress(idx(np.zeros(9, np.uint8))))
    with pytest.raises(FileFormatError, match="t10k files must hold 10 images"):
        read(config, train=30, test=10)
    labels.write_bytes(gzip.compress(idx(np.full(10, 10, np.uint8))))
    with pytest.raises(FileFormatError, match=r"t10k-labels.*labels must be below 10, got 10"):
        read(config, train=30, test=10)


def test_missing_idx_file(tmp_path: Path) -> None:
    """An IDX file that cannot be opened is named."""
    with pytest.raises(FileFormatError, match="nothing: cannot be read"):
        read_idx(tmp_path / "nothing", axes=1)


def test_download(tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are fetched from the address given and checked; once there they are not fetched again."""
    resources = []
    for name, path in write(tmp_path / "official").items():
        content = path.read_bytes()
        (server.folder / f"{name}.gz").write_bytes(content)
        resources.append((f"{name}.gz", hashlib.md5(content, usedforsecurity=False).hexdigest()))
    monkeypatch.setattr(FashionMNIST, "resources", resources)
    config = DataConfig(
        name="fashion_mnist", folder=str(tmp_path / "mine"), download=True, url=f"{server.address}/"
    )
    assert len(read(config, train=30, test=10).train) == 30
    for path in server.folder.iterdir():
        path.unlink()
    assert len(read(config, train=30, test=10).test) == 10


def test_download_of_another_file_is_refused(tmp_path: Path, server: Server) -> None:
    """What does not have the official checksum is not read."""
    for name in NAMES:
        (server.folder / f"{name}.gz").write_bytes(gzip.compress(idx(np.zeros(10, np.uint8))))
    config = DataConfig(name="fashion_mnist", folder=str(tmp_path), download=True, url=server.address)
    with pytest.raises(ConfigError, match=r"data\.download: http://127.* cannot be downloaded whole"):
        load(config)
