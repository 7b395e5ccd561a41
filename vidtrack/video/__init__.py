"""Reading and writing video files and folders of frames; knows nothing of models."""

from vidtrack.video.backward import read_backward
from vidtrack.video.cutout import CutoutWriter
from vidtrack.video.decode import Damage
from vidtrack.video.frame import Frame, VideoInfo, frame_name
from vidtrack.video.images import read_image, save_png
from vidtrack.video.index import VideoIndex
from vidtrack.video.live import LiveReader, is_live
from vidtrack.video.reader import VideoReader, probe, read_frame
from vidtrack.video.writer import VideoWriter

__all__ = [
    "CutoutWriter",
    "Damage",
    "Frame",
    "LiveReader",
    "VideoIndex",
    "VideoInfo",
    "VideoReader",
    "VideoWriter",
    "frame_name",
    "is_live",
    "probe",
    "read_backward",
    "read_frame",
    "read_image",
    "save_png",
]
