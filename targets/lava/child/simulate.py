"""Runs Lava bundles one after the other: `python -I simulate.py REQUEST`, started by the runner.

It imports only the standard library, NumPy and Lava, and ends when its standard input closes.
"""

from __future__ import annotations

import importlib
import json
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from snndeploy.targets.lava.child.failure import end_with_parent, ending_all, name_shared_memory
    from snndeploy.targets.lava.child.network import run
else:  # run as a script, snndeploy is not on the path, and -I leaves this folder out too
    sys.path.insert(0, str(Path(__file__).resolve().parent))
    from failure import end_with_parent, ending_all, name_shared_memory
    from network import run


def run_stock(job: Mapping[str, Any], manifest: Mapping[str, Any], request: Mapping[str, Any]) -> None:
    """Runs a bundle with Lava's own processes, which take seconds to import and so wait until one does."""
    stock = importlib.import_module("stock")
    stock.run(job, manifest, request)


def main(request_path: str) -> None:
    """Runs every job of a request file.

    Args:
        request_path: JSON with `jobs` (see `network.run`), `error`, `progress`, `potentials` and
            `shared_memory`, how the names of shared memory must begin.
    """
    request = json.loads(Path(request_path).read_text(encoding="utf-8"))
    threading.Thread(target=end_with_parent, daemon=True).start()
    with ending_all(request["error"], "simulation"):
        name_shared_memory(request["shared_memory"])
        for job in request["jobs"]:
            manifest = json.loads(Path(job["bundle"], "manifest.json").read_text(encoding="utf-8"))
            if manifest["form"] == "stock":
                run_stock(job, manifest, request)
            else:
                run(job, manifest, request)


if __name__ == "__main__":
    main(sys.argv[1])
