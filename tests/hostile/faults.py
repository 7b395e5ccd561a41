"""Kill -9 at random moments, and the same command again until it is done: the result must be that of one run.

A nursery, a process that has imported everything, forks the commands: a run of a second takes a second. Used
by `test_faults.py`, and for hours by `tests/benchmarks/soak.py`:

    with Nursery(folder) as nursery:
        counts = kill_rounds("propagate", folder, seed=1, until=time.monotonic() + 600, nursery=nursery)
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

ROOT = Path(__file__).parents[2]
LIMIT = 300.0  # seconds after which a run counts as hung
SAID = 20_000  # characters of the output that are kept, the last ones
SIGNALS = (signal.SIGINT, signal.SIGTERM)
MOST = 3  # kills in a round, if nothing else is said
IMPORTED = (
    *("vidtrack.cli", "vidtrack.job", "vidtrack.tracker", "vidtrack.passes", "vidtrack.progress"),
    *("vidtrack.learn.train", "vidtrack.learn.adapt", "vidtrack.learn.stills", "pretrain.run"),
    *("vidtrack.reports.track_page", "vidtrack.reports.pretrain_page", "vidtrack.reports.benchmark_page"),
    *("vidtrack.reports.benchmark_pictures", "vidtrack.benchmark.davis_task", "vidtrack.benchmark.runner"),
    *("vidtrack.benchmark.rows", "vidtrack.benchmark.table", "vidtrack.benchmark.mask_files", "kornia"),
    *("vidtrack.__main__", "lightning", "pretrain.methods.rotation", "vidtrack.probing.run"),
    *("vidtrack.probing.table", "vidtrack.reports.probe_page", "vidtrack.colorize", "rich.console"),
)
MEASURED = {  # what differs from run to run in JSON, and has no bearing on a result
    *("seconds", "frames_per_second", "peak_memory_mb", "propagation_seconds", "samples_per_second"),
    *("computed_frames", "reused", "waiting", "minutes", "minutes_left"),
}


@dataclass(frozen=True)
class Job:
    """A command to run.

    Attributes:
        argv: of `vidtrack`.
        after: seconds until `signal` is sent to its whole process group; None: it is left alone.
        again: seconds until it is sent a second time.
    """

    argv: Sequence[str]
    after: float | None = None
    signal: int = signal.SIGKILL
    again: float | None = None


@dataclass(frozen=True)
class Ended:
    """How a job ended: its exit code (negative: the signal), what it said, and how long it took.

    Attributes:
        seconds, slow: of all of it, and from the signal to the end.
        hung: it had to be killed after `LIMIT` seconds.
        memory_mb: resident at most, with what it shares with the nursery.
    """

    code: int
    said: str
    seconds: float
    slow: float
    hung: bool
    memory_mb: float


class Nursery:
    """A process that forks commands, with `folder` as the current one; temporary files and caches lie there.

    Args:
        folder: exists.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("tmp", "said"):
            (folder / name).mkdir(exist_ok=True)
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "OMP_WAIT_POLICY": "PASSIVE",
            "OPENBLAS_NUM_THREADS": "1",
            "TMPDIR": str(folder / "tmp"),
            "VIDTRACK_CACHE": str(folder / "cache"),
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
        }
        self._process = subprocess.Popen(
            [sys.executable, __file__], env=environment, cwd=folder, text=True, **_pipes()
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()

    def run(self, *jobs: Job) -> list[Ended]:
        """Run jobs side by side until all have ended."""
        assert self._process.stdin is not None and self._process.stdout is not None
        wanted = [{**vars(job), "argv": [str(word) for word in job.argv]} for job in jobs]
        self._process.stdin.write(json.dumps(wanted) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the nursery has died")
        return [Ended(**value) for value in json.loads(line)]


def _pipes() -> dict[str, Any]:
    return {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}


@dataclass
class Counts:
    """What rounds of kills brought.

    Attributes:
        kills: processes that a kill found at work.
        rounds: results that were completed after them.
        hangs: runs that took longer than `LIMIT`.
        faults: sentences on what went wrong; empty, if all is well.
    """

    kills: int = 0
    rounds: int = 0
    hangs: int = 0
    faults: list[str] = field(default_factory=list)


def kill_rounds(
    name: str,
    folder: Path,
    seed: int,
    rounds: int | None = None,
    until: float | None = None,
    nursery: Nursery | None = None,
    most: int = MOST,
) -> Counts:
    """Kill a command up to `most` times, run it until it is done, compare with an undisturbed run; repeat.

    Args:
        name: one of `inputs.COMMANDS`.
        folder: to work in; the inputs are made there.
        seed: of the moments.
        rounds: how many; None: as many as come to their end before `until`.
        until: no round begins after this moment of `time.monotonic()`.
        nursery: of `folder`; None: one for this call.
        most: kills in a round, at least one.
    """
    from .inputs import COMMANDS

    command, draw, counts = COMMANDS[name], random.Random(f"{name} {seed}"), Counts()
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "made").is_dir():
        command_inputs(folder / "made")
    out = folder / command.out
    with nullcontext(nursery) if nursery is not None else Nursery(folder) as born:
        _clear(folder, out)
        before = {path.name for path in folder.iterdir()}
        (alone,) = born.run(Job(command.argv))
        if alone.code:
            raise RuntimeError(f"{name} fails undisturbed: {alone.said}")
        wanted = contents(out)
        while (rounds is None or counts.rounds < rounds) and (until is None or time.monotonic() < until):
            _clear(folder, out)
            told = f"{name}, seed {seed}, round {counts.rounds}"

            def check(when: str, told: str = told) -> None:
                counts.faults += [f"{told}, {when}: {what}" for what in differences(wanted, contents(out))]

            for after in (*(draw.uniform(0, alone.seconds) for _ in range(draw.randint(1, most))), None):
                (ended,) = born.run(Job(command.argv, after))
                counts.kills += after is not None and ended.code == -signal.SIGKILL and not ended.hung
                counts.hangs += ended.hung
                if ended.code not in ((0,) if after is None else (0, -signal.SIGKILL)):
                    counts.faults.append(f"{told}: exit code {ended.code}: {ended.said}")
                late = ended.code == -signal.SIGKILL and command.whole and out.exists()
                if late:  # all was written: the next run would say that it is there
                    check("killed")
                if ended.code == 0 or late:
                    break
            check("done")
            left = {path.name for path in folder.iterdir()} - before - {out.name, "cache"}
            left -= {f".{out.name}.lock"} if late else set()  # held by nobody, taken over by the next run
            counts.faults += [f"{told}: {name} is left" for name in sorted(left)]
            counts.rounds += 1
    return counts


def _clear(folder: Path, out: Path) -> None:
    """Remove the result, and the caches, of which an undisturbed run had none."""
    for path in (out, folder / "cache", folder / "tmp"):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    (folder / "tmp").mkdir()


def command_inputs(folder: Path) -> None:
    """Make the inputs of all commands."""
    from .inputs import make

    make(folder)


def contents(out: Path) -> dict[str, Any]:
    """All files of a result by name: bytes, or values without times; pages and checkpoints must be there."""
    if out.is_file():
        return {"": out.read_bytes()}
    found: dict[str, Any] = {}
    for path in sorted(out.rglob("*")) if out.is_dir() else ():
        name = path.relative_to(out).as_posix()
        if path.is_dir():
            continue
        if path.suffix == ".json":
            found[name] = _without_times(json.loads(path.read_bytes()))
        elif path.suffix == ".jsonl":  # of a step that was made twice, the later one counts
            records = [_without_times(json.loads(line)) for line in path.read_text().splitlines()]
            steps = {record.get("step", record.get("index")): record for record in records}
            found[name] = [steps[step] for step in sorted(steps)]
        elif path.suffix in (".html", ".ckpt"):
            found[name] = path.stat().st_size > 0
        elif path.name == "results.csv":  # its speeds differ, and results.json has all else
            found[name] = path.read_text().count("\n")
        else:
            found[name] = path.read_bytes()
    return found


def differences(wanted: dict[str, Any], found: dict[str, Any]) -> list[str]:
    """Sentences on what one result has and the other has not."""
    missing = [f"{name} is missing" for name in wanted.keys() - found.keys()]
    more = [f"{name} is too many" for name in found.keys() - wanted.keys()]
    return [*missing, *more, *(f"{n} differs" for n in wanted.keys() & found.keys() if wanted[n] != found[n])]


def _without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_times(one) for key, one in value.items() if key not in MEASURED}
    return [_without_times(one) for one in value] if isinstance(value, list) else value


def _serve() -> None:
    """The nursery: reads jobs from stdin, a line each time, and says how they ended on stdout."""
    from importlib import import_module

    import torch

    for name in IMPORTED:
        import_module(name)
    torch.set_num_threads(1)
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # a new child is not ready for them
    for line in sys.stdin:
        born = [_Child(number, **job) for number, job in enumerate(json.loads(line))]
        while not all(child.ended() for child in born):
            time.sleep(0.002)
        print(json.dumps([child.result() for child in born]), flush=True)


class _Child:
    def __init__(
        self, number: int, argv: list[str], after: float | None, signal: int, again: float | None
    ) -> None:
        self.said = Path("said", str(number))
        self.due = [moment for moment in (after, again) if moment is not None]
        self.signal, self.code, self.hung = signal, None, False
        self.memory_mb = 0.0
        self.began = time.monotonic()
        self.sent = self.over = self.began
        self.pid = os.fork()
        if self.pid == 0:
            _become(argv, self.said)
        with suppress(PermissionError, ProcessLookupError):
            os.setpgid(self.pid, self.pid)  # both do: whoever comes first

    def ended(self) -> bool:
        """Send the signals that are due; whether the child is gone."""
        if self.code is not None:
            return True
        now = time.monotonic()
        pid, status, used = os.wait4(self.pid, os.WNOHANG)
        if pid:
            self.code, self.over = os.waitstatus_to_exitcode(status), now
            self.memory_mb = used.ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
            return True
        if self.due and now - self.began >= self.due[0]:
            self.due.pop(0)
            self.sent = now
            self.send(self.signal)
        if now - self.began > LIMIT and not self.hung:
            self.hung = True
            self.send(signal.SIGKILL)
        return False

    def send(self, number: int) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    def result(self) -> dict[str, Any]:
        said = self.said.read_text(errors="replace")[-SAID:]
        seconds, slow = self.over - self.began, self.over - self.sent
        return {
            "code": self.code,
            "said": said,
            "seconds": seconds,
            "slow": slow,
            "hung": self.hung,
            "memory_mb": self.memory_mb,
        }


def _become(argv: list[str], said: Path) -> None:
    """Run a command in the forked process; never returns."""
    os.setpgid(0, 0)
    output = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    command = __import__("vidtrack.__main__", fromlist=["main"])
    for number in SIGNALS:
        signal.signal(number, command._leave)  # as it would do itself, a moment later
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    sys.argv = ["vidtrack", *argv]
    code: Any = 70
    try:
        command.main()
    except SystemExit as end:
        code = end.code
    except BaseException:
        __import__("traceback").print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code or 0)


if __name__ == "__main__":
    _serve()
