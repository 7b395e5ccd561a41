"""A locked file: for one process at a time, free when it dies, gone afterwards."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from pretrain.errors import InputError
from pretrain.lock import locked

HOLD = (
    "import sys, time\n"
    "from pathlib import Path\n"
    "from pretrain.lock import locked\n"
    "with locked(Path('lock'), Path('work')) as lock:\n"
    "    {}\n"
    "    print('held', flush=True)\n"
    "    time.sleep(60)\n"
)


def hold(folder: Path, more: str = "pass") -> subprocess.Popen[str]:
    """Another process that holds `lock`."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD.format(more)],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    return process


def test_one_process_at_a_time(tmp_path: Path) -> None:
    process = hold(tmp_path)
    host = socket.gethostname()
    sentence = (
        rf"another run is writing work: wait for its end \(process {process.pid} on {host}\), or choose"
    )
    for _ in range(2):
        with pytest.raises(InputError, match=sentence), locked(tmp_path / "lock", Path("work")):
            pass
    process.send_signal(signal.SIGKILL)
    process.communicate()
    with locked(tmp_path / "lock", Path("work")) as lock:
        assert not lock.stays
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_forked_holds_nothing(tmp_path: Path) -> None:
    process = hold(tmp_path, "import os; os.fork() and time.sleep(60)")  # the child says when it is there
    process.kill()
    process.wait()
    with locked(tmp_path / "lock", Path("work")):
        pass
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def test_one_thread_at_a_time(tmp_path: Path) -> None:
    with locked(tmp_path / "lock", Path("work")):
        with pytest.raises(InputError, match="another run"), locked(tmp_path / "lock", Path("work")):
            pass
        assert (tmp_path / "lock").is_file()
    with pytest.raises(RuntimeError), locked(tmp_path / "lock", Path("work")):
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("ended", ["in order", "by a kill"])
def test_a_file_that_stays_says_so_to_the_next(tmp_path: Path, ended: str) -> None:
    if ended == "in order":
        with locked(tmp_path / "lock", Path("work")) as lock:
            lock.stays = True
    else:
        process = hold(tmp_path, "lock.stays = True")
        process.kill()
        process.communicate()
    with locked(tmp_path / "lock", Path("work")) as lock:
        assert lock.stays
        lock.stays = False
    assert not (tmp_path / "lock").exists()
    with locked(tmp_path / "lock", Path("work")) as lock:
        assert not lock.stays


def test_a_lock_that_was_removed_meanwhile_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its owner removes the file between our opening and our locking it: we take the new one."""
    import pretrain.lock as module

    real, calls = module._lock, []

    def late(descriptor: int) -> None:
        real(descriptor)
        calls.append(descriptor)
        if len(calls) == 1:
            (tmp_path / "lock").unlink()

    monkeypatch.setattr(module, "_lock", late)
    with locked(tmp_path / "lock", Path("work")):
        assert len(calls) == 2
        monkeypatch.setattr(module, "_lock", real)
        with pytest.raises(InputError), locked(tmp_path / "lock", Path("work")):
            pass
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    refused = pytest.raises(InputError, match=r"can't be made \(.*\): choose another --out")
    with refused, locked(tmp_path / "nowhere" / "lock", Path("work")):
        pass


def test_a_file_system_without_locks_has_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fcntl

    def none(*arguments: object) -> None:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", none)
    with locked(tmp_path / "lock", Path("work")), locked(tmp_path / "lock", Path("work")):
        assert (tmp_path / "lock").is_file()
