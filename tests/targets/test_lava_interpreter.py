"""Which Python simulates, and how an environment for it is made."""

from __future__ import annotations

import importlib.metadata
import os
import sys
import time
from pathlib import Path

import pytest

from snndeploy.errors import TargetError
from snndeploy.targets.lava import environment_folder, find_interpreter, interpreter, make_environment

VARIABLE = "SNNDEPLOY_LAVA_PYTHON"


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No variable, no environment, and no Lava in the current interpreter."""

    def no_package(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.delenv("UV", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setattr(importlib.metadata, "version", no_package)


def program(path: Path, text: str) -> Path:
    """An executable shell script."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n" + text)
    path.chmod(0o755)
    return path


def put_first(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Puts a folder in front of the search path for programs."""
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


def fake_uv(folder: Path, install: str) -> None:
    """A `uv` that notes its calls; `venv` makes a Python whose lava-nc is version 0.10.0."""
    program(
        folder / "uv",
        f"""[ "$1" = --version ] && exit 0
echo "$@" >> {folder}/calls
if [ "$1" = venv ]; then
  mkdir -p "$4/bin"; printf '#!/bin/sh\\necho 0.10.0 3.10\\n' > "$4/bin/python"; chmod +x "$4/bin/python"
else
  {install}
fi
""",
    )


def test_nothing_found_names_the_remedy() -> None:
    """Without any Lava the message names the command that makes an environment."""
    with pytest.raises(TargetError, match="run `snndeploy doctor --make-lava-env`"):
        find_interpreter()


def test_the_variable_comes_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A Python named by the variable is taken, even if the current one has Lava too."""
    monkeypatch.setattr(importlib.metadata, "version", lambda _: "0.9.0")
    path = program(tmp_path / "python", 'case "$*" in "-I -c "*) echo 0.10.0 3.10;; esac\n')
    monkeypatch.setenv(VARIABLE, str(path))
    found = find_interpreter()
    assert (found.path, found.lava_version, found.origin) == (path, "0.10.0", "variable")
    assert str(found) == f"{path} (lava-nc 0.10.0)"


@pytest.mark.parametrize("kind", ["missing", "no Lava", "no program"])
def test_a_wrong_variable_is_an_error(kind: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What the variable names must run and have lava-nc; there is no silent second choice."""
    monkeypatch.setattr(importlib.metadata, "version", lambda _: "0.9.0")
    path = tmp_path / "python"
    if kind == "no Lava":
        program(path, "echo PackageNotFoundError >&2; exit 1\n")
    if kind == "no program":
        path.write_text("text")
    monkeypatch.setenv(VARIABLE, str(path))
    with pytest.raises(TargetError, match=rf"{VARIABLE}: must name a Python interpreter that .*{path}"):
        find_interpreter()


def test_the_current_interpreter_comes_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is asked without importing Lava."""
    monkeypatch.setattr(importlib.metadata, "version", lambda _: "0.10.0")
    monkeypatch.setattr(interpreter, "PYTHON", "{}.{}".format(*sys.version_info))
    found = find_interpreter()
    assert (found.path, found.origin) == (Path(sys.executable), "current")
    assert "lava" not in sys.modules


@pytest.mark.parametrize(("lava", "python"), [("0.9.0", None), ("0.10.0", "2.7")])
def test_another_lava_or_python_is_passed_over(
    lava: str, python: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The current interpreter counts only with the release, and the Python, that bundles are made for."""
    monkeypatch.setattr(importlib.metadata, "version", lambda _: lava)
    monkeypatch.setattr(interpreter, "PYTHON", python or "{}.{}".format(*sys.version_info))
    with pytest.raises(TargetError, match="no Python interpreter with lava-nc was found"):
        find_interpreter()


@pytest.mark.parametrize(
    ("text", "got"),
    [
        ("echo 0.9.9\n", ""),
        ("echo 0.9.9 3.10\n", " with Python 3.10 and lava-nc 0.9.9"),
        ("echo 0.10.0 3.11\n", " with Python 3.11 and lava-nc 0.10.0"),
        ("exit 0\n", ""),
        ("echo 0.10.0 3.10; exit 1\n", ""),
        ("echo 0.10.0 3.10; head -c 3000000 /dev/zero\n", ""),
        ("exec yes\n", ""),
    ],
)
def test_the_wrong_answer_is_refused(
    text: str, got: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Only lava-nc 0.10.0 in Python 3.10 will do, whatever else runs and says a version, or endless lines."""
    path = program(tmp_path / "python", text)
    monkeypatch.setenv(VARIABLE, str(path))
    rule = rf"{VARIABLE}: must name .* is Python 3\.10 and has lava-nc==0\.10\.0, got {path}{got}; set {VARIABLE}"
    with pytest.raises(TargetError, match=rule):
        find_interpreter()


def test_a_hanging_answer_ends_with_its_children(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What does not answer in time is killed, and so is what it started, though they ignore SIGTERM."""
    pids = tmp_path / "pids"
    path = program(tmp_path / "python", f"trap '' TERM\nsleep 300 &\necho $$ $! > {pids}\nwait\n")
    monkeypatch.setenv(VARIABLE, str(path))
    monkeypatch.setattr(interpreter, "_PROBE_SECONDS", 1.0)
    with pytest.raises(TargetError, match=rf"got {path}; set {VARIABLE}"):
        find_interpreter()
    started = pids.read_text().split()
    assert len(started) == 2
    deadline = time.monotonic() + 10
    while any(map(runs, started)) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not any(map(runs, started))


def runs(pid: str) -> bool:
    """Whether a process exists and is no zombie."""
    try:
        return Path("/proc", pid, "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_an_environment_is_made_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With uv a Python 3.10 with the pinned Lava comes into the user's data folder, and only once."""
    fake_uv(tmp_path / "tools", "true")
    put_first(tmp_path / "tools", monkeypatch)
    folder = tmp_path / "data" / "snndeploy" / "lava-env"
    assert environment_folder() == folder
    made = make_environment()
    assert make_environment() == made
    assert (made.path, made.origin) == (folder / "bin" / "python", "environment")
    assert find_interpreter() == made
    assert (tmp_path / "tools" / "calls").read_text().splitlines() == [
        f"venv --python 3.10 {folder}",
        f"pip install --python {folder}/bin/python lava-nc==0.10.0",
    ]


def test_an_interrupted_installation_is_no_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A failed installation says what uv said, is not found later, and is begun anew."""
    fake_uv(tmp_path / "tools", "echo 'no solution found' >&2; exit 1")
    put_first(tmp_path / "tools", monkeypatch)
    with pytest.raises(TargetError, match=r"`uv pip install .*` failed, got no solution found"):
        make_environment()
    (environment_folder() / "left-over").write_text("")
    with pytest.raises(TargetError, match="no Python interpreter with lava-nc was found"):
        find_interpreter()
    fake_uv(tmp_path / "tools", "true")
    assert make_environment() == find_interpreter()
    assert not (environment_folder() / "left-over").exists()


def test_a_broken_environment_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An environment whose Python has gone is reported with its folder."""
    fake_uv(tmp_path / "tools", "true")
    put_first(tmp_path / "tools", monkeypatch)
    make_environment().path.unlink()
    with pytest.raises(TargetError, match=r"lava-env: must name a Python interpreter that runs"):
        find_interpreter()


def test_missing_uv_names_the_remedy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without a uv that runs, nothing can be made: a broken one on the path does not count."""
    program(tmp_path / "tools" / "uv", "exit 127\n")
    put_first(tmp_path / "tools", monkeypatch)
    monkeypatch.setattr(sys, "executable", str(program(tmp_path / "python", "exit 1\n")))
    with pytest.raises(TargetError, match="pip install uv"):
        make_environment()
    assert not environment_folder().exists()


@pytest.mark.parametrize("where", ["variable", "module"])
def test_uv_is_found_off_the_search_path(where: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The uv that started this program is named by a variable; it may also be a module of this Python."""
    fake_uv(tmp_path / "elsewhere", "true")
    program(tmp_path / "tools" / "uv", "exit 127\n")
    put_first(tmp_path / "tools", monkeypatch)
    if where == "variable":
        monkeypatch.setenv("UV", str(tmp_path / "elsewhere" / "uv"))
    else:
        python = program(tmp_path / "python", f'shift 2; exec "{tmp_path}/elsewhere/uv" "$@"\n')
        monkeypatch.setattr(sys, "executable", str(python))
    assert make_environment() == find_interpreter()


def test_a_data_folder_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A file where a folder should be is an error of ours, before uv is called."""
    fake_uv(tmp_path / "tools", "true")
    put_first(tmp_path / "tools", monkeypatch)
    (tmp_path / "data").write_text("")
    with pytest.raises(TargetError, match="cannot be written"):
        make_environment()
    assert not (tmp_path / "tools" / "calls").exists()
