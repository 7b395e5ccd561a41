"""`vidtrack propagate`: a video and annotations in, a folder of results out. `run.py` has the whole story."""

from vidtrack.job.annotate import Annotations, LabelOptions, read_annotations
from vidtrack.job.live import LiveSource
from vidtrack.job.plan import Plan, default_out
from vidtrack.job.run import propagate_live, propagate_video

__all__ = [
    "Annotations",
    "LabelOptions",
    "LiveSource",
    "Plan",
    "default_out",
    "propagate_live",
    "propagate_video",
    "read_annotations",
]
