"""One Hypothesis profile for all tests, the same examples every time, and the Python that has Lava."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings

from snndeploy.errors import TargetError
from snndeploy.targets.lava import Interpreter, find_interpreter

settings.register_profile(
    "snndeploy", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("snndeploy")


@pytest.fixture(scope="session")
def lava_interpreter() -> Interpreter:
    """A Python with Lava; tests that need one are skipped with the reason why there is none."""
    try:
        return find_interpreter()
    except TargetError as error:
        pytest.skip(str(error))
