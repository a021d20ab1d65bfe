"""Runs Lava bundles, in a Python process of their own; nothing here imports Lava."""

from snndeploy.targets.lava.bundle import Bundle, read
from snndeploy.targets.lava.interpreter import (
    Interpreter,
    environment_folder,
    find_interpreter,
    make_environment,
)
from snndeploy.targets.lava.runner import Simulation, simulate

__all__ = [
    "Bundle",
    "Interpreter",
    "Simulation",
    "environment_folder",
    "find_interpreter",
    "make_environment",
    "read",
    "simulate",
]
