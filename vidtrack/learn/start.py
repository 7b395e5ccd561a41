"""A tracker that goes on learning: where a run, or an adaptation to a video, begins from one."""

from __future__ import annotations

from pathlib import Path

from pretrain.catalogue import FILE as OF_PRETRAIN
from pretrain.catalogue import OF_TRAIN
from pretrain.errors import InputError
from pretrain.folder import file_of_run
from vidtrack.model.colorizer import Model
from vidtrack.model.tracker_file import TrackerFile, is_tracker_file, load_tracker
from vidtrack.tracker import SO_FAR, bundled_weights


def tracker_file(tracker: str) -> Path:
    """The tracker file that a user names: "default", "small", "free", a file, or the folder of a run.

    Raises:
        InputError: it is none, a run that isn't finished, or a tracker that can't learn.
    """
    path = file_of_run(bundled_weights(tracker) or Path(tracker), (OF_TRAIN,), SO_FAR, (OF_PRETRAIN,))
    if not path.is_file() or not is_tracker_file(path):
        raise InputError(
            f"--tracker {tracker} can't learn: give default, small, free, or a file or finished run of "
            "vidtrack train."
        )
    return path


def read_start(tracker: str, model: Model) -> TrackerFile:
    """The tracker that a run of `vidtrack train` goes on from.

    Args:
        tracker: see `tracker_file`.
        model: of the run's config: the tracker's own settings count, so nothing may be chosen there.

    Raises:
        InputError: see `tracker_file`; or something is chosen there.
    """
    if model.backbone != Model().backbone:
        raise InputError("--backbone and --tracker both say what the run begins with: give one of them.")
    if model != Model():
        raise InputError(
            "the config has settings of model, and a tracker to go on from, which has its own: drop either "
            "(--config track/default has none)."
        )
    return load_tracker(tracker_file(tracker))
