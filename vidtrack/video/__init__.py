"""Reading and writing video files and folders of frames; knows nothing of models."""

from vidtrack.video.frame import Frame, VideoInfo, frame_name
from vidtrack.video.images import read_image, save_png
from vidtrack.video.reader import VideoReader, probe, read_frame
from vidtrack.video.writer import VideoWriter

__all__ = [
    "Frame",
    "VideoInfo",
    "VideoReader",
    "VideoWriter",
    "frame_name",
    "probe",
    "read_frame",
    "read_image",
    "save_png",
]
