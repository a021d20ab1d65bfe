"""Tiny-ImageNet from its folders of JPEG files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from snndeploy.errors import ConfigError, FileFormatError
from snndeploy.train.config import DataConfig
from snndeploy.train.data import load
from snndeploy.train.data.source import Parts
from snndeploy.train.data.tiny_imagenet import read

IDS = ("n02", "n01", "n03")  # not sorted: the order of wnids.txt decides
GREY = {"n02": 40, "n01": 120, "n03": 200}


def picture(path: Path, level: int, mode: str = "RGB", size: tuple[int, int] = (64, 64)) -> None:
    """A plain image, red or grey."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, level if mode == "L" else (level, 0, 0)).save(path, "JPEG", quality=95)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three classes of four training images each, the first of them grey, and six test images."""
    root = tmp_path / "tiny-imagenet-200"
    for id_ in IDS:
        for number in range(4):
            path = root / "train" / id_ / "images" / f"{id_}_{number}.JPEG"
            picture(path, GREY[id_], "L" if number == 0 else "RGB")
    rows = []
    for number, id_ in enumerate(("n03", "n02", "n02", "n01", "n03", "n01")):
        picture(root / "val" / "images" / f"val_{number}.JPEG", GREY[id_])
        rows.append(f"val_{number}.JPEG\t{id_}\t0\t0\t62\t62\n")
    (root / "val" / "val_annotations.txt").write_text("".join(rows))
    (root / "wnids.txt").write_text("\n".join(IDS) + "\n")
    (root / "words.txt").write_text("n00\tentity\nn01\tgoldfish, Carassius auratus\nn02\ttench\n")
    return root


def parts(folder: Path) -> Parts:
    """What is read of it."""
    return read(config(folder), classes=3, per_class=4, test=6)


def config(folder: Path) -> DataConfig:
    """The configuration for it."""
    return DataConfig(name="tiny_imagenet", folder=str(folder.parent))


def test_images_labels_and_names(folder: Path) -> None:
    """Labels count the lines of wnids.txt; images are RGB, channels first; names are the first of words.txt."""
    found = parts(folder)
    assert found.train.images.shape == (12, 3, 64, 64)
    assert found.train.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert found.test.labels.tolist() == [2, 0, 0, 1, 2, 1]
    assert found.classes == ("tench", "goldfish", "n03")
    for samples in (found.train, found.test):
        levels = np.array([GREY[IDS[label]] for label in samples.labels])
        red = samples.images[:, 0].reshape(len(samples), -1)
        assert np.abs(red - levels[:, None].astype(int)).max() <= 3  # JPEG is not exact


def test_grey_images_become_rgb(folder: Path) -> None:
    """All three channels of a grey image are equal; those of a red one are not."""
    images = parts(folder).train.images
    assert (images[0] == images[0][:1]).all()
    assert (images[1][1] < images[1][0] - 20).all()


def test_images_stand_upright(folder: Path) -> None:
    """Rows before columns: an image with a white upper half has one after reading."""
    image = Image.new("RGB", (64, 64))
    image.paste((255, 255, 255), (0, 0, 64, 32))
    image.save(folder / "train" / "n02" / "images" / "n02_1.JPEG", "JPEG")
    upper, lower = parts(folder).train.images[1].reshape(3, 2, 32, 64).swapaxes(0, 1)
    assert upper.min() > 250
    assert lower.max() < 5


def test_missing_files_say_how_to_get_them(tmp_path: Path) -> None:
    """The archive and its place; no setting downloads it."""
    with pytest.raises(ConfigError) as error:
        load(DataConfig(name="tiny_imagenet", folder=str(tmp_path), download=True))
    message = str(error.value)
    assert "holds no tiny_imagenet" in message
    assert "http://cs231n.stanford.edu/tiny-imagenet-200.zip" in message
    assert f"{tmp_path}/tiny-imagenet-200/wnids.txt" in message
    assert "data.download" not in message


def test_official_numbers_are_expected(folder: Path) -> None:
    """A part of the data set is not taken for the whole."""
    with pytest.raises(FileFormatError, match=r"wnids\.txt: must hold 200 class ids, got 3"):
        load(config(folder))


def test_missing_images_are_counted(folder: Path) -> None:
    """In training folders and in the annotations."""
    (folder / "train" / "n01" / "images" / "n01_2.JPEG").unlink()
    with pytest.raises(FileFormatError, match=r"n01/images: must hold 4 JPEG files, got 3"):
        parts(folder)
    picture(folder / "train" / "n01" / "images" / "n01_2.JPEG", 1)
    (folder / "val" / "images" / "val_3.JPEG").unlink()
    with pytest.raises(FileFormatError, match=r"val_3\.JPEG: is no whole JPEG image"):
        parts(folder)


@pytest.mark.parametrize("damage", ["cut", "text", "png", "size"])
def test_damaged_images_are_named(folder: Path, damage: str) -> None:
    """Cut off, no image, another format under that name, or of another size."""
    path = folder / "train" / "n01" / "images" / "n01_2.JPEG"
    match damage:
        case "cut":
            path.write_bytes(path.read_bytes()[:-200])
        case "text":
            path.write_text("not an image")
        case "png":
            Image.new("RGB", (64, 64)).save(path, "PNG")
        case _:
            picture(path, 5, size=(32, 64))
    message = "must be 64x64 pixels" if damage == "size" else "is no whole JPEG image"
    with pytest.raises(FileFormatError, match=rf"n01_2\.JPEG: {message}"):
        parts(folder)


@pytest.mark.parametrize(
    "row", ["val_0.JPEG n03", "val_0.JPEG\tn99\t0\t0\t1\t1", "../x.JPEG\tn03\t0\t0\t1\t1"]
)
def test_damaged_annotations_are_named(folder: Path, row: str) -> None:
    """No tab, an unknown class, or a path that leaves the folder."""
    path = folder / "val" / "val_annotations.txt"
    path.write_text("\n".join([row, *path.read_text().splitlines()[1:]]))
    with pytest.raises(FileFormatError, match=r"val_annotations\.txt: each line must have a file's name"):
        parts(folder)


def test_annotations_that_are_cut_off(folder: Path) -> None:
    """Fewer lines than images are noticed."""
    path = folder / "val" / "val_annotations.txt"
    path.write_text("\n".join(path.read_text().splitlines()[:4]))
    with pytest.raises(FileFormatError, match=r"val_annotations\.txt: must hold 6 lines, got 4"):
        parts(folder)
    path.write_bytes(b"\xff\xff")
    with pytest.raises(FileFormatError, match=r"val_annotations\.txt: cannot be read as text"):
        parts(folder)
