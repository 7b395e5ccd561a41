"""How long the fuzzing goes on: VIDTRACK_EXAMPLES is the number of examples of each test, few without it.

And what the commands that are killed, interrupted and run side by side work on.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from PIL import Image

from pretrain import limits

from .faults import Nursery, command_inputs

settings.register_profile(
    "hostile",
    max_examples=int(os.environ.get("VIDTRACK_EXAMPLES", "12")),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@pytest.fixture(autouse=True)
def _own_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands that tests run in this process may set --max-pixels, which must not outlive the test."""
    monkeypatch.setattr(limits, "_allowed", limits.MAX_PIXELS)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With the inputs of all commands in `made/`."""
    path = tmp_path_factory.mktemp("faults")
    command_inputs(path / "made")
    return path


@pytest.fixture(scope="session")
def nursery(folder: Path) -> Iterator[Nursery]:
    with Nursery(folder) as born:
        yield born
