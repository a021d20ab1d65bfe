"""Runs Lava bundles without Lava, many samples at once, in the machine steps of their schedule."""

from snndeploy.targets.native.runner import simulate

__all__ = ["simulate"]
