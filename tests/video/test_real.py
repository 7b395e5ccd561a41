"""Real clips and a real folder of frames, named by VIDTRACK_DATA."""

from __future__ import annotations

import cv2
import numpy as np

from vidtrack.video import VideoReader, VideoWriter, probe


def test_clips_as_opencv_reads_them(data):
    for path in sorted((data / "train").glob("*.mp4"))[:3]:
        capture = cv2.VideoCapture(str(path))
        with VideoReader(path, end=40) as reader:
            frames = list(reader)
        assert not reader.warnings
        for frame in frames:
            expected = capture.read()[1][..., ::-1]
            assert frame.image.shape == expected.shape == (reader.info.height, reader.info.width, 3)
            assert np.abs(frame.image.astype(int) - expected).mean() < 1.5
        capture.release()
        assert [f.index for f in frames] == list(range(len(frames)))


def test_a_davis_folder_becomes_a_video(data, tmp_path):
    folder = data / "eval" / "DAVIS-2016-dev" / "JPEGImages" / "480p" / "bear"
    info = probe(folder)
    assert (info.kind, info.width, info.height) == ("folder", 854, 480)
    assert info.frames == len(list(folder.glob("*.jpg")))
    with (
        VideoReader(folder, 3, 9) as reader,
        VideoWriter(tmp_path / "bear.mp4", info.width, info.height, info.rate) as writer,
    ):
        frames = list(reader)
        for frame in frames:
            writer.write(frame.image, frame.time)
    assert [f.name for f in frames] == [f"{i:05d}" for i in range(3, 9)]
    with VideoReader(tmp_path / "bear.mp4") as reader:
        for frame, copy in zip(frames, reader, strict=True):
            error = frame.image.astype(float) - copy.image
            assert 10 * np.log10(255**2 / np.mean(error**2)) > 28
            assert copy.time == frame.time - frames[0].time
