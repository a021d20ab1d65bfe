"""A web server on this machine, for what is downloaded."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest


@dataclass(frozen=True)
class Server:
    """Serves a folder.

    folder: What is in it can be fetched.
    address: Of the folder.
    """

    folder: Path
    address: str


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Says nothing."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A server of an empty folder."""
    folder = tmp_path / "served"
    folder.mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder))) as running:
        thread = threading.Thread(target=partial(running.serve_forever, 0.01), daemon=True)
        thread.start()
        yield Server(folder, f"http://127.0.0.1:{running.server_address[1]}")
        running.shutdown()
        thread.join()
