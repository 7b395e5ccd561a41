"""Shared fixtures: the real data named by VIDTRACK_DATA, which CI must have."""

import os
import signal
from pathlib import Path

import pytest

# Each worker of pytest-xdist, and the commands that it starts, takes its share of the cores: threads of two
# workers that wait for one another make small tests ten times slower. Torch reads it when it is imported.
if "PYTEST_XDIST_WORKER_COUNT" in os.environ:
    share = (os.cpu_count() or 1) // int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
    os.environ.setdefault("OMP_NUM_THREADS", str(max(share, 1)))

# A shell starts background jobs with Ctrl-C ignored; the programs that the tests interrupt would inherit it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of real data; skips outside CI when VIDTRACK_DATA is unset, fails in CI."""
    folder = os.environ.get("VIDTRACK_DATA")
    if folder and (Path(folder) / "eval").is_dir():
        return Path(folder)
    if os.environ.get("CI") or folder:
        pytest.fail("VIDTRACK_DATA must name the folder of real data (with eval/, golden/, train/)")
    pytest.skip("needs real data: set VIDTRACK_DATA to the folder that holds eval/, golden/ and train/")
