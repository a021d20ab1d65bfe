"""Runs Lava bundles one after the other: `python -I simulate.py REQUEST`, started by the runner.

It imports only the standard library, NumPy and Lava, and ends when its standard input closes.
"""

from __future__ import annotations

import json
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from snndeploy.targets.lava.child.failure import end_with_parent, ending_all
    from snndeploy.targets.lava.child.network import run_bundle
else:  # run as a script, snndeploy is not on the path, and -I leaves this folder out too
    sys.path.insert(0, str(Path(__file__).resolve().parent))
    from failure import end_with_parent, ending_all
    from network import run_bundle


def main(request_path: str) -> None:
    """Runs every job of a request file.

    Args:
        request_path: JSON with `jobs` (see `run_bundle`), `error`, `progress` and `potentials`.
    """
    request = json.loads(Path(request_path).read_text(encoding="utf-8"))
    threading.Thread(target=end_with_parent, daemon=True).start()
    with ending_all(request["error"], "simulation"):
        for job in request["jobs"]:
            run_bundle(job, request)


if __name__ == "__main__":
    main(sys.argv[1])
