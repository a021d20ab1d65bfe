"""How long `snndeploy --help` takes beside `python -c pass`, in one run.

python benchmarks/cli_start.py
"""

from __future__ import annotations

import platform
import statistics
import subprocess
import sys
import time
from datetime import date

ROUNDS = 30
COMMANDS = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "snndeploy --help": [sys.executable, "-m", "snndeploy", "--help"],
    "snndeploy inspect resnet18": [sys.executable, "-m", "snndeploy", "inspect", "resnet18"],
}


def main() -> None:
    """Prints the result as Markdown."""
    seconds: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(ROUNDS):  # interleaved, so that other load on the machine hits all alike
        for name, command in COMMANDS.items():
            start = time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            seconds[name].append(time.perf_counter() - start)
    base = statistics.median(seconds["python -c pass"])
    print("# Start of the command line\n")
    print(
        f"{date.today()}, Python {platform.python_version()}, {platform.machine()}, {ROUNDS} interleaved rounds.\n"
    )
    print("| command | median ms | min ms | ratio of medians |\n|---|---|---|---|")
    for name, values in seconds.items():
        median = statistics.median(values)
        print(f"| `{name}` | {median * 1e3:.0f} | {min(values) * 1e3:.0f} | {median / base:.1f} |")


if __name__ == "__main__":
    main()
