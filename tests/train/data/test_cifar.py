"""CIFAR-10 and CIFAR-100 from their binary versions: read, refused when damaged, downloaded."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import tarfile
from pathlib import Path

import numpy as np
import pytest

from snndeploy.errors import ConfigError, FileFormatError
from snndeploy.train.config import DataConfig
from snndeploy.train.data import load
from snndeploy.train.data.cifar import CIFAR10, CIFAR100, Variant, read
from tests.train.data.conftest import Server

SMALL10 = dataclasses.replace(CIFAR10, records=20)
SMALL100 = dataclasses.replace(CIFAR100, records=200)
TEST = 20


def records(labels: list[tuple[int, ...]], seed: int) -> bytes:
    """Records of a binary file: labels, then random pixels."""
    rng = np.random.default_rng(seed)
    return b"".join(bytes(label) + rng.bytes(3072) for label in labels)


def contents(variant: Variant) -> dict[str, bytes]:
    """The files of a small data set; CIFAR-100's coarse labels are wrong on purpose."""

    def file(count: int, seed: int) -> bytes:
        front = (19,) if variant.labels == 2 else ()
        return records([(*front, (place + seed) % variant.classes) for place in range(count)], seed)

    files = {name: file(variant.records, seed) for seed, name in enumerate(variant.train)}
    names = "\n".join(f"class {label}" for label in range(variant.classes)) + "\n\n"
    return {**files, variant.test: file(TEST, 9), variant.names: names.encode()}


def write(folder: Path, variant: Variant) -> Path:
    """Writes them where they belong."""
    target = folder / variant.folder
    target.mkdir(parents=True)
    for name, content in contents(variant).items():
        (target / name).write_bytes(content)
    return target


def config(variant: Variant, folder: Path, **settings: object) -> DataConfig:
    """The configuration for one of the two."""
    name = f"cifar{variant.classes}"
    return dataclasses.replace(DataConfig(name=name, folder=str(folder)), **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("variant", [SMALL10, SMALL100])
def test_records_are_read(tmp_path: Path, variant: Variant) -> None:
    """Channel, row, column as laid out in the file; all batches in order; the fine label counts."""
    folder = write(tmp_path, variant)
    parts = read(config(variant, tmp_path), variant, test=TEST)
    assert len(parts.train) == len(variant.train) * variant.records
    second = (folder / variant.train[-1]).read_bytes()
    size = variant.labels + 3072
    pixels = np.frombuffer(second[size + variant.labels : 2 * size], np.uint8)
    image = parts.train.images[len(parts.train) - variant.records + 1]
    for channel, row, column in ((0, 0, 0), (0, 0, 31), (0, 31, 0), (1, 2, 3), (2, 31, 31)):
        assert image[channel, row, column] == pixels[channel * 1024 + row * 32 + column]
    assert parts.test.labels.tolist() == [(place + 9) % variant.classes for place in range(TEST)]
    assert parts.classes == tuple(f"class {label}" for label in range(variant.classes))
    assert parts.train.images.flags.writeable


def test_whole_data_set_is_split_as_in_the_paper(tmp_path: Path) -> None:
    """45 000 / 5 000 / 10 000 with equal classes; 8 : 2 if asked; augmented by crop and flip."""
    folder = tmp_path / CIFAR100.folder
    folder.mkdir()
    for name, count in (("train.bin", 50_000), ("test.bin", 10_000)):
        content = np.zeros((count, 3074), np.uint8)
        content[:, 1] = np.arange(count) // (count // 100)
        content[:, 2:6] = np.arange(count, dtype=">u4").view(np.uint8).reshape(-1, 4)  # its number
        (folder / name).write_bytes(content.tobytes())
    (folder / CIFAR100.names).write_bytes(contents(SMALL100)[CIFAR100.names])
    data = load(config(CIFAR100, tmp_path))
    assert [len(part) for part in (data.train, data.validation, data.test)] == [45_000, 5_000, 10_000]
    assert np.bincount(data.validation.labels).tolist() == [50] * 100
    numbers = np.concatenate(
        [
            np.ascontiguousarray(p.images[:, 0, 0, :4]).view(">u4").ravel()
            for p in (data.train, data.validation)
        ]
    )
    assert sorted(numbers.tolist()) == list(range(50_000))
    assert data.shape == (3, 32, 32)
    assert [change.__name__ for change in data.augment] == ["crop", "flip"]
    search = load(config(CIFAR100, tmp_path, validation=0.2))
    assert (len(search.train), len(search.validation)) == (40_000, 10_000)


@pytest.mark.parametrize("variant", [CIFAR10, CIFAR100])
def test_missing_files_say_how_to_get_them(tmp_path: Path, variant: Variant) -> None:
    """The page, the version that is needed, the setting that downloads, and where files go."""
    with pytest.raises(ConfigError) as error:
        load(config(variant, tmp_path))
    message = str(error.value)
    for part in (
        f"data.folder: holds no cifar{variant.classes}",
        f"{tmp_path}/{variant.folder}/{variant.train[0]}",
        "--set data.download=true",
        "https://www.cs.toronto.edu/~kriz/cifar.html",
        "the binary version, not the python one",
    ):
        assert part in message


def test_every_file_is_needed(tmp_path: Path) -> None:
    """One that is missing is named."""
    (write(tmp_path, SMALL10) / "data_batch_4.bin").unlink()
    with pytest.raises(ConfigError, match=r"data_batch_4\.bin is missing"):
        read(config(SMALL10, tmp_path), SMALL10, test=TEST)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "data_batch_2.bin",
            contents(SMALL10)["data_batch_2.bin"][:-1],
            "20 records of 3073 bytes, 61460 in all",
        ),
        ("data_batch_2.bin", contents(SMALL10)["data_batch_2.bin"][:-3073], "20 records of 3073 bytes"),
        ("data_batch_2.bin", contents(SMALL10)["data_batch_2.bin"] + b"\0", "got 61461"),
        ("test_batch.bin", b"", "20 records of 3073 bytes, 61460 in all, got 0"),
        ("test_batch.bin", records([(10,)] * 20, 0), "labels must be below 10, got 10"),
        ("batches.meta.txt", b"cat\ndog\n", "must name 10 classes, one a line, got 2"),
        ("batches.meta.txt", b"\xff\xfe", "cannot be read as text"),
    ],
)
def test_damaged_files_are_named(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    """Cut off within a record or between two, too long, empty, or with impossible labels or names."""
    (write(tmp_path, SMALL10) / name).write_bytes(content)
    with pytest.raises(FileFormatError, match=rf"{name}: .*{message}"):
        read(config(SMALL10, tmp_path), SMALL10, test=TEST)


def archive(path: Path, variant: Variant, *, without: str = "") -> str:
    """Packs the data set as its page has it; returns the checksum."""
    with tarfile.open(path, "w:gz") as tar:
        for name, content in contents(variant).items():
            if name != without:
                member = tarfile.TarInfo(f"{variant.folder}/{name}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()


def test_download(tmp_path: Path, server: Server) -> None:
    """The archive is fetched, checked and unpacked where files belong; files that are there stay."""
    served = server.folder / "cifar-10-binary.tar.gz"
    variant = dataclasses.replace(
        SMALL10, url=f"{server.address}/{served.name}", md5=archive(served, SMALL10)
    )
    mine = tmp_path / "mine"
    parts = read(config(SMALL10, mine, download=True), variant, test=TEST)
    assert len(parts.train) == 100
    assert {path.name for path in (mine / variant.folder).iterdir()} == set(contents(SMALL10))
    served.unlink()
    (mine / variant.folder / "data_batch_1.bin").unlink()
    assert len(read(config(SMALL10, mine, download=True), variant, test=TEST).train) == 100


def test_download_of_another_file_is_refused(tmp_path: Path, server: Server) -> None:
    """The official checksum guards against damage and against other people's files, from any address."""
    served = server.folder / "mirror.tar.gz"
    archive(served, SMALL10)
    settings = config(CIFAR10, tmp_path / "mine", download=True, url=f"{server.address}/{served.name}")
    with pytest.raises(ConfigError, match=r"data\.download: .* cannot be downloaded whole .*corrupted"):
        load(settings)


def test_download_without_a_connection(tmp_path: Path, server: Server) -> None:
    """What went wrong is said, and what to do instead."""
    url = f"{server.address}/nothing.tar.gz"
    with pytest.raises(ConfigError, match=r"got HTTP Error 404.*; get it by other means, put it at"):
        load(config(CIFAR10, tmp_path, download=True, url=url))


def test_archive_that_lacks_a_file(tmp_path: Path, server: Server) -> None:
    """It is named, and nothing of it is left behind half-written."""
    served = server.folder / "cifar-10-binary.tar.gz"
    md5 = archive(served, SMALL10, without="data_batch_3.bin")
    variant = dataclasses.replace(SMALL10, url=f"{server.address}/{served.name}", md5=md5)
    mine = tmp_path / "mine"
    with pytest.raises(FileFormatError, match=r"has no file cifar-10-batches-bin/data_batch_3\.bin"):
        read(config(SMALL10, mine, download=True), variant, test=TEST)
    written = {path.name for path in (mine / variant.folder).iterdir()}
    assert written == {"data_batch_1.bin", "data_batch_2.bin"}
