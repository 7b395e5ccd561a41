"""What a run of `vidtrack train` learns from, and what it is validated on: two sets of videos."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vidtrack.learn.frames import NothingToLearn, build_cache
from vidtrack.learn.held_out import SPLIT, ClipSet, choose_clips, has_split, held_out
from vidtrack.learn.index.build import Progress
from vidtrack.learn.settings import TrackConfig

VALIDATION_GB = 0.5  # of decoded frames


@dataclass(frozen=True, eq=False)
class TrainingSet:
    """Decoded videos.

    Attributes:
        videos: uint8 `[T, H, W, 3]` RGB each, to learn from.
        names: the video of each.
        shots: the number of the shot that each is a part of.
        clips: to validate on; None where there are none.
        skipped: name and reason of what is not used.
    """

    videos: list[np.ndarray]
    names: list[str]
    shots: list[int]
    clips: ClipSet | None
    skipped: list[tuple[str, str]]


def read_training_set(
    data: Path,
    config: TrackConfig,
    cache: Path,
    decoding: Progress | None = None,
    indexing: Progress | None = None,
    announce: Callable[[str], None] | None = None,
) -> TrainingSet:
    """Decode what a run needs, or take what an earlier call left.

    The videos of the split `val` of `clips.csv` are validated on; where no `clips.csv` has one, or all splits
    are learned from, some of the videos are held out (see `vidtrack.learn.held_out`). A split `val` without a
    usable video ends nothing: the run is not validated.

    Args:
        data: folder of videos, or one video.
        config: the run's config.
        cache: folder of the decoded frames.
        decoding, indexing, announce: see `vidtrack.learn.frames.build_cache`.

    Raises:
        InputError: nothing to learn from.
    """
    settings, wanted, side = config.data, config.validation.clips, config.clips.crop
    tell = announce or (lambda text: None)
    found = build_cache(
        data, settings, cache, config.clips.frames, decoding, indexing=indexing, announce=announce
    )
    if settings.split not in (None, SPLIT) and has_split(data):
        tell(f"split {SPLIT}, for validation:")
        changes = {"split": SPLIT, "licences": None, "cache_gb": min(settings.cache_gb, VALIDATION_GB)}
        try:
            other = build_cache(
                data,
                settings.model_copy(update=changes),
                cache / SPLIT,
                wanted.frames,
                decoding,
                indexing=indexing,
                announce=announce,
            )
        except NothingToLearn as error:  # nobody needs it to learn
            skipped = [*found.skipped, (f"split {SPLIT}", f"no validation: {error}")]
            return TrainingSet(found.videos, found.names, found.shots, None, skipped)
        clips = choose_clips(other.videos, other.names, wanted, side)
        return TrainingSet(found.videos, found.names, found.shots, clips, [*found.skipped, *other.skipped])
    kept_back = held_out(found.names)
    parts = list(zip(found.names, found.videos, found.shots, strict=True))
    held = [(name, video) for name, video, _ in parts if name in kept_back]
    clips = choose_clips([video for _, video in held], [name for name, _ in held], wanted, side)
    if clips is None:
        tell("no validation: there are too few videos to hold some out")
    else:
        tell(f"held out for validation: {', '.join(sorted(kept_back))}")
    learned = [part for part in parts if clips is None or part[0] not in kept_back]
    names, videos, shots = (list(column) for column in zip(*learned, strict=True))
    return TrainingSet(videos, names, shots, clips, found.skipped)
