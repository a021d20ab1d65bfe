"""CIFAR10-DVS: recordings in the AEDAT 2.0 format, frames of them, tonic's copy, and the kept frames."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import numpy.typing as npt
import pytest

from snndeploy.errors import ConfigError, FileFormatError
from snndeploy.train.config import DataConfig
from snndeploy.train.data import cifar10_dvs, load
from snndeploy.train.data.aedat import Events, read_events
from snndeploy.train.data.event_frames import frames, highest, unit
from snndeploy.train.data.source import assemble

HEADER = b"#!AER-DAT2.0\r\n# This is a raw AE data file - do not edit\r\n# created for a test\r\n"
Event = tuple[int, int, bool, int]  # row, column, on, time in microseconds


def recording(events: list[Event], header: bytes = HEADER) -> bytes:
    """Events as a DVS128 on its side writes them."""
    content = header
    for row, column, on, time_us in events:
        address = (127 - column) << 8 | (127 - row) << 1 | (not on)
        content += address.to_bytes(4, "big") + time_us.to_bytes(4, "big")
    return content


def noise(count: int, seed: int) -> list[Event]:
    """Random events, in the order of time."""
    rng = np.random.default_rng(seed)
    rows, columns = rng.integers(0, 128, (2, count)).tolist()
    return list(zip(rows, columns, (rng.random(count) < 0.5).tolist(), range(0, 7 * count, 7), strict=True))


def listed(events: Events) -> list[tuple[int, int, bool]]:
    """Row, column, polarity."""
    return list(zip(events.rows.tolist(), events.columns.tolist(), events.on.tolist(), strict=True))


def test_events_are_read(tmp_path: Path) -> None:
    """Row, column and polarity of each event, whatever the header; corners are corners."""
    written = [
        (0, 0, True, 10),
        (0, 127, False, 11),
        (127, 0, True, 12),
        (5, 77, False, 13),
        *noise(50, 0)[2:],
    ]
    path = tmp_path / "a.aedat"
    for header in (HEADER, b"#!AER-DAT2.0\n", HEADER * 3):
        path.write_bytes(recording(written, header))
        expected = [event[:3] for event in sorted(written, key=lambda event: event[3])]
        assert listed(read_events(path)) == expected


def test_address_bits(tmp_path: Path) -> None:
    """0x7f00 is one axis, 0x00fe the other, bit 0 the polarity (0 is ON), big-endian, address first."""
    path = tmp_path / "a.aedat"
    path.write_bytes(HEADER + bytes.fromhex("00007f00 00000001  000000fe 00000002  00000001 00000003"))
    assert listed(read_events(path)) == [(127, 0, True), (0, 127, True), (127, 127, False)]


def test_what_is_no_event_of_a_pixel_is_left_out(tmp_path: Path) -> None:
    """Bit 15 marks triggers from outside."""
    path = tmp_path / "a.aedat"
    path.write_bytes(recording([(3, 4, True, 1)]) + bytes.fromhex("00008000 00000002"))
    assert listed(read_events(path)) == [(3, 4, True)]


def test_order_is_that_of_time(tmp_path: Path) -> None:
    """Events out of order are sorted; those of one time keep their order; times beyond 2**31 are late."""
    path = tmp_path / "a.aedat"
    path.write_bytes(
        recording([(1, 1, True, 2**31 + 5), (2, 2, True, 20), (3, 3, False, 10), (4, 4, True, 20)])
    )
    assert [event[0] for event in listed(read_events(path))] == [3, 2, 4, 1]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (recording(noise(9, 0))[:-1], "must hold whole events of 8 bytes, got 71 bytes"),
        (b"#!AER-DAT3.1\r\n" + recording([])[14:], r"must begin with #!AER-DAT2\.0"),
        (b"", r"must begin with #!AER-DAT2\.0"),
    ],
)
def test_damaged_recordings_are_named(tmp_path: Path, content: bytes, message: str) -> None:
    """Cut off, of another version, or empty."""
    path = tmp_path / "a.aedat"
    path.write_bytes(content)
    with pytest.raises(FileFormatError, match=rf"a\.aedat: {message}"):
        read_events(path)


def test_recording_without_events(tmp_path: Path) -> None:
    """A header alone is a recording of nothing, of which no frames can be made; nor of a file that is not there."""
    path = tmp_path / "a.aedat"
    for content in (HEADER, HEADER.rstrip()):
        path.write_bytes(content)
        with pytest.raises(FileFormatError, match="must hold at least 10 events"):
            frames(read_events(path), 10, 48, str(path))
    with pytest.raises(FileFormatError, match="cannot be read"):
        read_events(tmp_path / "b.aedat")


def events(listed: list[Event]) -> Events:
    """Events without a file."""
    rows, columns, on, _ = zip(*listed, strict=True)
    return Events(np.array(rows), np.array(columns), np.array(on))


def area_means(counts: npt.NDArray[np.int64], size: int) -> npt.NDArray[np.float64]:
    """Mean events per sensor pixel over each pixel of a frame, by the definition: on lines fine for both."""
    rows = counts.repeat(size, axis=2).reshape(len(counts), 2, size, 128, 128).mean(axis=3)
    means: npt.NDArray[np.float64] = (
        rows.repeat(size, axis=3).reshape(len(counts), 2, size, size, 128).mean(axis=4)
    )
    return means


@pytest.mark.parametrize("size", [48, 64, 16, 112])
def test_frames_are_means_over_areas(size: int) -> None:
    """Of all events of a frame; ON before OFF; in units that keep them whole."""
    some = noise(3000, 1)
    made = frames(events(some), 4, size, "a")
    counts = np.zeros((4, 2, 128, 128), np.int64)
    for place, (row, column, on, _) in enumerate(some):
        counts[place * 4 // 3000, 0 if on else 1, row, column] += 1
    np.testing.assert_allclose(made / unit(size), np.minimum(area_means(counts, size), 4), atol=1e-12)
    assert made.shape == (4, 2, size, size)
    assert made.dtype == np.uint8


def test_full_size_frames_count_events() -> None:
    """With the sensor's own size a pixel is its number of events, up to 4."""
    same = [(7, 9, True, 0)] * 3 + [(8, 8, False, 0)] * 9
    made = frames(events(same), 1, 128, "a")
    assert (made[0, 0, 7, 9], made[0, 1, 8, 8], made.sum()) == (3, 4, 7)
    assert (unit(128), highest(128), unit(64), highest(64), unit(48), highest(48)) == (1, 4, 4, 16, 64, 255)


def test_frames_hold_equally_many_events() -> None:
    """11 events in 4 frames: 2, 3, 3, 3, however long the pauses."""
    some = [(row, 0, True, 1000**row if row < 3 else 10**9) for row in range(11)]
    made = frames(events(some), 4, 128, "a")
    assert made.sum(axis=(1, 2, 3)).tolist() == [2, 3, 3, 3]
    assert made[0, 0, :2, 0].tolist() == [1, 1]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Ten recordings of each class."""
    for label, name in enumerate(cifar10_dvs.CLASSES):
        target = tmp_path / "CIFAR10DVS" / name
        target.mkdir(parents=True)
        for number in range(10):
            (target / f"cifar10_{name}_{number}.aedat").write_bytes(recording(noise(60, 10 * label + number)))
    return tmp_path


def config(folder: Path, seed: int = 0) -> DataConfig:
    """The configuration for it."""
    return DataConfig(name="cifar10_dvs", folder=str(folder), seed=seed)


def test_data_set(folder: Path) -> None:
    """Ten frames of 48x48; 9 : 1 exactly in every class, then 8 : 2; mirrored and rolled; disjoint."""
    parts = cifar10_dvs.read(config(folder), per_class=10)
    data = assemble(cifar10_dvs.source(config(folder)), parts, config(folder))
    assert [len(part) for part in (data.train, data.validation, data.test)] == [72, 18, 10]
    assert np.bincount(data.test.labels).tolist() == [1] * 10
    assert data.train.images.shape == (72, 10, 2, 48, 48)
    assert (data.shape, data.steps, data.input.kind) == ((2, 48, 48), 10, "frames")
    assert [change.__name__ for change in data.augment] == ["flip", "roll"]
    seen = [image.tobytes() for part in (data.train, data.validation, data.test) for image in part.images]
    assert len(set(seen)) == 100
    written = folder / "CIFAR10DVS" / "bird" / "cifar10_bird_3.aedat"
    place = seen.index(frames(read_events(written), 10, 48, "").tobytes())
    labels = np.concatenate([part.labels for part in (data.train, data.validation, data.test)])
    assert labels[place] == cifar10_dvs.CLASSES.index("bird") == 2


def test_seed_decides_the_test_set(folder: Path) -> None:
    """The same recordings for the same seed, others for another."""
    tests = [cifar10_dvs.read(config(folder, seed), per_class=10).test.images for seed in (0, 0, 1)]
    assert np.array_equal(tests[0], tests[1])
    assert not np.array_equal(tests[0], tests[2])


def test_frames_are_kept(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second time no recording is read, and the frames are the same; a file that changed is noticed."""
    first = cifar10_dvs.read(config(folder), per_class=10)
    reads: list[Path] = []

    def counted(path: Path) -> Events:
        reads.append(path)
        return read_events(path)

    monkeypatch.setattr(cifar10_dvs, "read_events", counted)
    again = cifar10_dvs.read(config(folder), per_class=10)
    assert not reads
    assert np.array_equal(again.train.images, first.train.images)
    changed = folder / "CIFAR10DVS" / "cat" / "cifar10_cat_0.aedat"
    changed.write_bytes(recording(noise(70, 0)))
    cifar10_dvs.read(config(folder), per_class=10)
    assert len(reads) == 100
    kept = folder / "CIFAR10DVS-10x48.npz"
    kept.write_bytes(kept.read_bytes()[:1000])
    cifar10_dvs.read(config(folder), per_class=10)
    assert len(reads) == 200


def test_frames_that_cannot_be_kept(folder: Path) -> None:
    """Where something stands in the way, recordings are read every time, and nothing is left behind."""
    in_the_way = folder / "CIFAR10DVS-10x48.npz"
    in_the_way.mkdir()
    for _ in range(2):
        assert len(cifar10_dvs.read(config(folder), per_class=10).test) == 10
    assert {path.name for path in folder.iterdir()} == {"CIFAR10DVS", in_the_way.name}


def test_missing_files_say_how_to_get_them(tmp_path: Path) -> None:
    """The page, the setting, and the layout."""
    with pytest.raises(ConfigError) as error:
        load(config(tmp_path))
    message = str(error.value)
    assert "holds no cifar10_dvs" in message
    assert "https://figshare.com/articles/dataset/CIFAR10-DVS_New/4724671" in message
    assert f"{tmp_path}/CIFAR10DVS/airplane/*.aedat" in message
    assert "--set data.download=true" in message


def test_wrong_numbers_are_refused(folder: Path) -> None:
    """Of recordings in a class, none at all included."""
    target = folder / "CIFAR10DVS" / "frog"
    (target / "cifar10_frog_4.aedat").unlink()
    with pytest.raises(FileFormatError, match=r"frog: must hold 10 recordings \*\.aedat, got 9"):
        cifar10_dvs.read(config(folder), per_class=10)
    for path in target.iterdir():
        path.unlink()
    with pytest.raises(FileFormatError, match=r"frog: must hold 10 recordings, \.aedat or \.aedat4, got 0"):
        cifar10_dvs.read(config(folder), per_class=10)


@pytest.mark.parametrize("size", [144, 8, 40])
def test_frames_have_certain_sizes(tmp_path: Path, size: int) -> None:
    """At most the sensor's, and none whose means would not fit into bytes."""
    with pytest.raises(ConfigError, match=r"data\.size: must be a multiple of 16 up to 128"):
        load(DataConfig(name="cifar10_dvs", folder=str(tmp_path), size=size))


DTYPE = np.dtype([("t", np.uint64), ("x", np.uint16), ("y", np.uint16), ("on", bool)])


def with_tonic(monkeypatch: pytest.MonkeyPatch, read_aedat4: object, dataset: object = None) -> None:
    """Puts a stand-in for tonic, which is not among our test dependencies, where imports find it."""
    tonic, io, datasets = ModuleType("tonic"), ModuleType("tonic.io"), ModuleType("tonic.datasets")
    io.read_aedat4 = read_aedat4  # type: ignore[attr-defined]
    datasets.CIFAR10DVS = dataset  # type: ignore[attr-defined]
    tonic.io, tonic.datasets = io, datasets  # type: ignore[attr-defined]
    for module in (tonic, io, datasets):
        monkeypatch.setitem(sys.modules, module.__name__, module)


def test_tonics_copy_is_read_by_tonic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fields are t, x, y, polarity in that order, whatever the last one's name; x is the column."""
    path = tmp_path / "a.aedat4"
    given = np.array([(20, 5, 6, True), (10, 127, 0, False)], DTYPE)
    asked: list[str] = []

    def read_aedat4(name: str) -> npt.NDArray[np.void]:
        asked.append(name)
        return given

    with_tonic(monkeypatch, read_aedat4)
    assert listed(read_events(path)) == [(0, 127, False), (6, 5, True)]
    assert asked == [str(path)]
    given["x"][0] = 128
    with pytest.raises(FileFormatError, match="must be of a 128x128 sensor"):
        read_events(path)


def test_what_tonic_cannot_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its decoder raises all sorts of exceptions; ours names the file."""

    def read_aedat4(name: str) -> None:
        raise Exception(f"no events in {name}")  # noqa: TRY002  (as it does)

    with_tonic(monkeypatch, read_aedat4)
    with pytest.raises(FileFormatError, match=r"a\.aedat4: cannot be read as AEDAT 4, got no events"):
        read_events(tmp_path / "a.aedat4")


def test_without_tonic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its copy and the download need it; the message names the extra, and what needs none."""
    monkeypatch.setitem(sys.modules, "tonic", None)
    with pytest.raises(
        ConfigError, match=r"tonic: is needed to read a\.aedat4.*snndeploy\[events\]; or unpack"
    ):
        read_events(tmp_path / "a.aedat4")
    with pytest.raises(ConfigError, match=r"tonic: is needed to download CIFAR10-DVS"):
        load(DataConfig(name="cifar10_dvs", folder=str(tmp_path), download=True))


def test_download_through_tonic(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """From an address that works, or one's own; tonic's chatter does not reach the standard output."""
    fetched: list[tuple[str, str, str]] = []

    class CIFAR10DVS:
        """Like tonic's: the folder is named after the class, the address is the class's."""

        url = "https://figshare.com/ndownloader/files/38023437"

        def __init__(self, save_to: str) -> None:
            print("Downloading")  # noqa: T201
            fetched.append((type(self).__name__, self.url, save_to))
            if "broken" in self.url:
                raise RuntimeError("File not found or corrupted.")
            for label, name in enumerate(cifar10_dvs.CLASSES):
                target = Path(save_to, type(self).__name__, name)
                target.mkdir(parents=True)
                for number in range(2):
                    (target / f"{number}.aedat4").write_text(f"{10 * label + number}")

    def read_aedat4(name: str) -> npt.NDArray[np.void]:
        some = noise(30, int(Path(name).read_text()))
        return np.array([(time_us, column, row, on) for row, column, on, time_us in some], DTYPE)

    with_tonic(monkeypatch, read_aedat4, CIFAR10DVS)
    settings = DataConfig(name="cifar10_dvs", folder=str(tmp_path / "a"), download=True)
    parts = cifar10_dvs.read(settings, per_class=2)
    cifar10_dvs.read(settings, per_class=2)
    assert fetched == [
        ("CIFAR10DVS", "https://api.figshare.com/v2/file/download/38023437", str(tmp_path / "a"))
    ]
    assert len(parts.train) + len(parts.test) == 20
    assert capsys.readouterr().out == ""
    mine = DataConfig(
        name="cifar10_dvs", folder=str(tmp_path / "b"), download=True, url="http://localhost/broken.zip"
    )
    with pytest.raises(
        ConfigError, match=r"data\.download: .* from http://localhost/broken\.zip, got File not"
    ):
        cifar10_dvs.read(mine, per_class=2)
