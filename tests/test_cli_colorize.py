"""`vidtrack colorize` as users type it."""

import json
import re
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from vidtrack.video import VideoReader, VideoWriter, read_frame, save_png


def picture(t: int) -> np.ndarray:
    """Frame `t`, 64 x 96: an orange square on gray ground, moving."""
    image = np.full((64, 96, 3), 90, np.uint8)
    image[16:48, 8 + 4 * t : 40 + 4 * t] = (220, 120, 30)
    return image


@pytest.fixture
def clip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`video.mp4` (8 frames, in colour), `ref0.png` and `ref7.png` in the current folder."""
    with VideoWriter(tmp_path / "video.mp4", 96, 64, Fraction(25)) as writer:
        for t in range(8):
            writer.write(picture(t))
    for t in (0, 7):
        save_png(tmp_path / f"ref{t}.png", read_frame(tmp_path / "video.mp4", t).image)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: object) -> int:
    from vidtrack.cli import app

    with pytest.raises(SystemExit) as ended:
        app(["colorize", *(str(a) for a in arguments), "--device", "cpu"])
    return int(ended.value.code or 0)


def test_it_writes_everything(clip: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("video.mp4", "--reference", "ref0.png", "--tracker", "lab") == 0
    told = capsys.readouterr()
    assert "video_colorized: 8 frames" in told.out and not told.err
    assert re.search(r"colorized \d+\.\d dB, copy \d+\.\d dB, gray \d+\.\d dB", told.out)
    out = clip / "video_colorized"
    assert sorted(p.name for p in out.iterdir()) == ["colorized.mp4", "report.json"]
    report = json.loads((out / "report.json").read_text())
    assert report["frame_count"] == 8 and set(report["psnr_ab"]) == {"colorized", "copy", "gray"}
    assert (
        report["options"]["propagation"]["refine"] is False and report["options"]["propagation"]["topk"] == 2
    )
    with av.open(str(out / "colorized.mp4")) as video:
        assert video.streams.video[0].codec_context.name == "h264"
        assert video.streams.video[0].codec_context.pix_fmt == "yuv420p"  # browsers play it
    assert run("video.mp4", "--reference", "ref0.png", "--tracker", "lab") == 2
    assert "--overwrite" in capsys.readouterr().err


def test_options_reach_the_tracker(clip: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done = run(
        *("video.mp4", "--reference", "2=ref0.png", "--reference", "6=ref7.png", "--direction", "both"),
        *("--start", 1, "--end", 8, "--out", "result", "--tracker", "lab", "--context", "1,2", "--radius", 6),
        *("--topk", 4, "--temperature", 0.07, "--refine", "--size", "native", "--quiet", "--threads", 1),
    )
    assert done == 0 and capsys.readouterr().out == ""
    report = json.loads((clip / "result" / "report.json").read_text())
    assert report["direction"] == "both" and [f["index"] for f in report["frames"]] == list(range(1, 8))
    assert set(report["input"]["references"]) == {"2", "6"}
    expected = {"size": None, "context": [1, 2], "radius": 6, "topk": 4, "temperature": 0.07, "refine": True}
    assert expected.items() <= report["options"]["propagation"].items()


def test_the_sound_is_kept(clip: Path) -> None:
    with av.open("video.mp4") as source, av.open("sound.mp4", "w") as output:
        pictures = output.add_stream_from_template(source.streams.video[0])
        sound = output.add_stream("aac", rate=16000, layout="mono")
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = pictures
                output.mux(packet)
        noise = (np.random.default_rng(0).standard_normal((1, 5120)) / 9).astype(np.float32)
        for begin in range(0, 5120, 1024):
            frame = av.AudioFrame.from_ndarray(noise[:, begin : begin + 1024], "fltp", "mono")
            frame.sample_rate, frame.pts = 16000, begin
            output.mux(sound.encode(frame))
        output.mux(sound.encode(None))
    assert run("sound.mp4", "--reference", "ref0.png", "--tracker", "lab", "--quiet") == 0
    with VideoReader(clip / "sound_colorized" / "colorized.mp4") as reader:
        assert reader.info.has_audio and len(list(reader)) == 8


def test_gray_video_has_no_scores(clip: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with VideoWriter(clip / "gray.mp4", 96, 64, Fraction(25)) as writer:
        for t in range(8):
            writer.write(picture(t).mean(axis=2, keepdims=True).astype(np.uint8).repeat(3, 2))
    assert run("gray.mp4", "--reference", "ref0.png", "--tracker", "lab") == 0
    assert "dB" not in capsys.readouterr().out
    last = read_frame(clip / "gray_colorized" / "colorized.mp4", 7).image.astype(int)
    assert (
        last[32, 52, 0] > last[32, 52, 2] + 60 and np.ptp(last[32, 12]) < 20
    )  # orange moved with its square


MISTAKES = {
    "no video": (["nothing.mp4", "--reference", "ref0.png"], "nothing.mp4"),
    "no picture": (["video.mp4", "--reference", "nothing.png"], "there is no picture nothing.png"),
    "not a picture": (["video.mp4", "--reference", "video.mp4"], "video.mp4 can't be read as a picture"),
    "gray": (["video.mp4", "--reference", "gray.png"], "gray.png has no colours"),
    "aspect": (["video.mp4", "--reference", "square.png"], "50x50.*96x64"),
    "twice": (
        ["video.mp4", "--reference", "ref0.png", "--reference", "0=ref7.png"],
        "frame 0 has a reference",
    ),
    "after the end": (["video.mp4", "--reference", "8=ref7.png"], "frame 8"),
    "outside": (["video.mp4", "--reference", "7=ref7.png", "--end", "7"], "frame 7, which is not among"),
    "start": (["video.mp4", "--reference", "ref0.png", "--start", "99"], "8 frames"),
    "direction": (["video.mp4", "--reference", "ref0.png", "--direction", "up"], "--direction up is unknown"),
    "size": (["video.mp4", "--reference", "ref0.png", "--size", "big"], "--size big"),
    "topk": (["video.mp4", "--reference", "ref0.png", "--topk", "0"], "--topk"),
    "out": (["video.mp4", "--reference", "ref0.png", "--out", "ref0.png/x"], "ref0.png"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_one_sentence(clip: Path, mistake: str, capsys: pytest.CaptureFixture[str]) -> None:
    save_png(clip / "gray.png", np.full((64, 96, 3), 90, np.uint8))
    save_png(clip / "square.png", picture(0)[:50, :50])
    before = sorted(clip.rglob("*"))
    arguments, sentence = MISTAKES[mistake]
    assert run(*arguments, "--tracker", "lab") == 2
    told = capsys.readouterr().err
    assert told.startswith("Error: ") and told.count("\n") == 1 and re.search(sentence, told), told
    assert sorted(clip.rglob("*")) == before
