"""The folder of a run of `vidtrack pretrain` or `vidtrack train`: whose it is, and how far the run is."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch

from pretrain.config import Config
from pretrain.distributed import first_alone, rank, world_size
from pretrain.errors import InputError
from pretrain.lock import locked
from pretrain.log import LOG, trim
from pretrain.origin import git_commit, versions

CHECKPOINT = "last.ckpt"
LOCK = ".lock"
# Settings that a run may change on its way: what it learns doesn't depend on them.
FREE = ("engine.workers", "engine.checkpoint_minutes", "engine.log_every", "data.cache")
CHANGES = 3  # of settings that a message names


@contextmanager
def run_folder(out: Path) -> Iterator[None]:
    """Context manager: the folder of a run, made, and of no other run meanwhile; the first process locks it.

    Where the run is refused before its first checkpoint, a folder that was new or empty goes again.

    Raises:
        InputError: another run has it, or it can't be made; in all processes.
    """
    new = False

    def take() -> None:
        nonlocal new
        try:
            out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{out} can't be made: {error.strerror}; choose another --out.") from error
        if rank() == 0:
            held.enter_context(locked(out / LOCK, out))
            new = [path.name for path in out.iterdir()] == [LOCK]

    try:
        with ExitStack() as held:
            first_alone(take)
            yield
    except InputError:
        if new and not (out / CHECKPOINT).exists():
            shutil.rmtree(out, ignore_errors=True)
        raise


def steps_done(out: Path) -> int:
    """Number of steps in the run's checkpoint, 0 if there is none.

    Raises:
        InputError: the checkpoint can't be read.
    """
    path = out / CHECKPOINT
    if not path.exists():
        return 0
    try:
        return int(torch.load(path, map_location="cpu", weights_only=True)["global_step"])
    except Exception as error:  # any damage of the file ends here
        raise InputError(f"{path} can't be read; remove it to begin the run anew.") from error


def file_of_run(path: Path, names: Sequence[str], so_far: Sequence[str], others: Sequence[str] = ()) -> Path:
    """What a user means who names the folder of a run: the file that it left. Other paths are what they are.

    Args:
        path: what the user names.
        names: of the file that a finished run leaves; the first that is there.
        so_far: patterns of files with what an unfinished run had learned at some time, the best first.
        others: what finished runs of another kind leave.

    Raises:
        InputError: the folder holds none of `names`; or `path` is the checkpoint of a run, which no one else
            can use. The message names what can be used instead.
    """
    folder = path if path.is_dir() else path.parent
    run = (folder / CHECKPOINT).is_file() and _config_of(folder / "config.json") is not None
    checkpoint = run and path == folder / CHECKPOINT  # other programs call theirs so, too
    if not checkpoint and not path.is_dir():
        return path
    left = [folder / name for name in names if (folder / name).is_file()]
    if left and not checkpoint:
        return left[0]
    for other in others:
        if (folder / other).is_file():
            raise InputError(
                f"{folder} holds {other}, and a {' or '.join(names)} is wanted: give another run or file."
            )
    what = f"{path} is for going on with its run" if checkpoint else f"{folder} holds a run that was stopped"
    if left:
        raise InputError(f"{what}: give {left[0]}.")
    known = [file for pattern in so_far for file in sorted(folder.glob(pattern), reverse=True)]
    if run:
        raise InputError(
            f"{what}: run the command of the run again to finish it"
            + (f", or give {known[0]}, which it left on the way." if known else ".")
        )
    raise InputError(f"{folder} holds no {' or '.join(names)}: give the folder of a finished run, or a file.")


def look_at_run(out: Path, config: Config, overwrite: bool) -> int:
    """Number of steps that the run of a folder has done already, 0 if it begins; nothing is changed.

    A folder with the same resolved config, but for `FREE`, is continued.

    Raises:
        InputError: the folder holds something else, or without `overwrite` a run of another config or of
            another number of processes.
    """
    record = out / "config.json"
    if all(path.name in (LOCK, _partial(record).name) for path in out.iterdir()):
        return 0
    resolved, before, processes = config.model_dump(mode="json"), _config_of(record), _read(record)
    if before is None and not (out / CHECKPOINT).is_file():  # --overwrite is about runs
        raise InputError(f"{out} exists and holds no run: choose another --out.")
    if overwrite:
        return 0
    if before is None:
        raise InputError(f"{record} can't be read: choose another --out, or add --overwrite to begin anew.")
    changed = _differences(before, resolved)
    first = 0 if changed else steps_done(out)
    if changed and any((out / name).exists() for name in (CHECKPOINT, LOG)):  # else it never began
        more = f", and {len(changed) - CHANGES} more" if len(changed) > CHANGES else ""
        raise InputError(
            f"{out} holds a run with other settings ({'; '.join(changed[:CHANGES])}{more}): choose "
            "another --out, or add --overwrite to begin anew."
        )
    own = processes.get("processes")
    finished = first >= resolved.get("optimizer", {}).get("steps", first + 1)
    if first and own not in (None, world_size()) and not finished:
        raise InputError(
            f"{out} was begun with {own} of torchrun's processes, each with a batch of its own, and "
            f"{world_size()} can't go on with it: start it with --nproc-per-node {own}, choose another "
            "--out, or add --overwrite to begin anew."
        )
    return first


def look_or_begin(out: Path, config: Config, overwrite: bool, products: Iterable[str]) -> int:
    """As `look_at_run`; a folder without a run becomes that of one at once, one that is replaced does not.

    What stands there stays until `begin_run` is called, when all is known that a new run needs. All
    processes call both, whatever they find: the first may have written before the others look.
    """
    first = look_at_run(out, config, overwrite)
    if not any((out / name).exists() for name in ("config.json", CHECKPOINT)):
        begin_run(out, config, first, products)
    return first


def begin_run(out: Path, config: Config, first: int, products: Iterable[str]) -> None:
    """Make the folder that `look_at_run` has seen that of a run that begins, or goes on after step `first`.

    The config, the versions and the git commit are written beside the results. Where the run begins, an
    earlier one's files, among them its `products` (patterns), go. Only the first process does anything.
    """
    if rank() > 0:
        return
    resolved, record = config.model_dump(mode="json"), out / "config.json"
    _sweep(out)
    if first:
        trim(out, first)
        if _config_of(record) != resolved:
            write_record(record, _record(resolved))
        return
    for name in (CHECKPOINT, LOG, *products):
        for path in out.glob(name):
            path.unlink()
            if path.parent != out and not any(path.parent.iterdir()):
                path.parent.rmdir()
    write_record(record, _record(resolved))


def _record(config: dict[str, Any]) -> dict[str, Any]:
    return {
        "config": config,
        "processes": world_size(),
        "versions": versions(),
        "commit": git_commit(),
    }


def write_record(path: Path, value: Any) -> None:
    """Write JSON into the folder of a run, atomically."""
    partial = _partial(path)
    partial.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
    partial.replace(path)


def _partial(path: Path) -> Path:
    return path.with_name(f".{path.name}.partial")


def _sweep(out: Path) -> None:
    """Remove what a killed run left half-written, by itself or by safetensors."""
    own = (".*.partial*", f"{CHECKPOINT}.partial", "*.safetensors.partial")
    for pattern in (*own, ".tmp??????", "*/.tmp??????"):
        for path in out.glob(pattern):
            if path.is_file():
                path.unlink()


def _differences(before: Mapping[str, Any], now: Mapping[str, Any], prefix: str = "") -> list[str]:
    """The settings that differ, but for `FREE`, each with its value in the run and the one asked for."""
    found: list[str] = []
    for key in [*now, *(key for key in before if key not in now)]:
        then, wanted, name = before.get(key), now.get(key), f"{prefix}{key}"
        if isinstance(then, dict) and isinstance(wanted, dict):
            found += _differences(then, wanted, f"{name}.")
        elif then != wanted and name not in FREE:
            found.append(f"{name}: {_written(then)} there, {_written(wanted)} here")
    return found


def _written(value: Any) -> str:
    """A value as it stands in a config, as far as a message has room."""
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:60]}..."


def _config_of(record: Path) -> dict[str, Any] | None:
    """The config of the run that `config.json` is of; None if it is of none."""
    found = _read(record).get("config")
    return found if isinstance(found, dict) else None


def _read(record: Path) -> dict[str, Any]:
    """What `config.json` holds; nothing if it is none."""
    try:
        found = json.loads(record.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
