"""Colours carried through gray video: exact parts, an honest tracker, scores that can be checked by hand."""

import json
import math
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from skimage.color import lab2rgb, rgb2lab

from vidtrack import InputError, Maps
from vidtrack.colorize import (
    GraySession,
    alike,
    colorize_video,
    colour,
    load_reference,
    parse_references,
    psnr,
    to_gray,
    to_lab,
)
from vidtrack.tolerance import OnError
from vidtrack.tracker import Tracker, load
from vidtrack.video import VideoReader, VideoWriter, read_frame, save_png

from .video.conftest import doubtful_video


def moving(frames: int = 6, scale: int = 1) -> list[np.ndarray]:
    """A red square moves over blue ground, 4 pixels per frame, 64 x 96, or `scale` times all that."""
    rng = np.random.default_rng(0)

    def texture(rows: int, columns: int) -> np.ndarray:
        return np.asarray(
            rng.integers(60, 200, (rows // 2, columns // 2, 1)).repeat(2, 0).repeat(2, 1).astype(float)
        )

    back = texture(64 * scale, 96 * scale) * [0.5, 0.7, 1.2]
    square = texture(24 * scale, 24 * scale) * [1.2, 0.5, 0.4]
    images = []
    for t in range(frames):
        image = back.copy()
        left = (8 + 4 * t) * scale
        image[16 * scale : 40 * scale, left : left + 24 * scale] = square
        images.append(image.clip(0, 255).astype(np.uint8))
    return images


Write = Callable[..., Path]


@pytest.fixture
def folder(tmp_path: Path) -> Write:
    """Writes pictures as a folder of frames, without loss."""

    def write(images: list[np.ndarray], name: str = "frames") -> Path:
        (tmp_path / name).mkdir()
        for number, image in enumerate(images):
            save_png(tmp_path / name / f"{number:05d}.png", image)
        return tmp_path / name

    return write


@pytest.fixture(scope="module")
def lab() -> Tracker:
    return load("lab", device="cpu", refine=False, topk=2, size=None)


def frames_of(path: Path) -> list[np.ndarray]:
    with VideoReader(path) as reader:
        return [frame.image for frame in reader]


def test_lab_is_cielab() -> None:
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    np.testing.assert_allclose(to_lab(image), rgb2lab(image), atol=0.7)  # OpenCV's tables
    assert to_lab(image).dtype == np.float32
    corners = np.array([[[r, g, b] for r in (0, 255) for g in (0, 255) for b in (0, 255)]], np.uint8)
    found = to_lab(corners)
    assert found[..., 0].min() >= 0 and found[..., 0].max() <= 100.01 and abs(found[..., 1:]).max() <= 128


def test_gray_has_no_colour() -> None:
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    gray = to_gray(image)
    assert np.ptp(gray, axis=2).max() == 0
    np.testing.assert_allclose(gray[..., 0], image @ [0.299, 0.587, 0.114], atol=1)
    assert abs(to_lab(gray)[..., 1:]).max() < 0.2
    assert np.array_equal(to_gray(gray), gray)
    assert np.array_equal(to_gray(image[:, ::-1]), gray[:, ::-1])  # any memory layout


def test_colour_keeps_the_brightness() -> None:
    image = np.random.default_rng(0).integers(60, 190, (20, 30, 3), np.uint8)
    ab = np.random.default_rng(1).uniform(-10, 10, (20, 30, 2)).astype(np.float32)
    found = colour(image, ab)
    gray_l = rgb2lab(to_gray(image))[..., :1]
    expected = lab2rgb(np.concatenate([gray_l, ab], axis=2)) * 255
    np.testing.assert_allclose(found, expected, atol=2)
    np.testing.assert_allclose(colour(image, np.zeros_like(ab)), to_gray(image), atol=1)
    extreme = colour(image, np.full_like(ab, 127))
    assert extreme.dtype == np.uint8 and extreme[..., 1].max() < 120  # clipped, not wrapped around


def test_psnr_by_hand() -> None:
    truth = np.zeros((2, 2, 2), np.float32)
    found = truth.copy()
    assert psnr(truth, found) == 100
    found[0, 0, 0] = 8  # mean squared error 64 / 8
    assert psnr(truth, found) == pytest.approx(10 * math.log10(255**2 / 8))
    assert psnr(found, truth) == psnr(truth, found)
    assert psnr(truth, truth + np.float32(1e-30)) == 100


def test_alike() -> None:
    first, *_, last = moving()
    noise = np.random.default_rng(3).integers(0, 256, first.shape, np.uint8)
    flat = np.full_like(first, 90)
    assert alike(first, to_gray(first)) and alike(first, last) and alike(flat, first)
    assert not alike(first, noise) and not alike(first, 255 - first)


def test_references_are_parsed() -> None:
    assert parse_references(["a.png"]) == {0: Path("a.png")}
    assert parse_references(["a.png", "40=b=c.png", "7=d e.png"], 3) == {
        3: Path("a.png"),
        40: Path("b=c.png"),
        7: Path("d e.png"),
    }
    assert parse_references(["x=a.png"]) == {0: Path("x=a.png")}
    for texts in (["a.png", "0=b.png"], ["5=a.png", "5=a.png"], ["a.png", "b.png"]):
        with pytest.raises(InputError, match="has a reference already"):
            parse_references(texts)
    with pytest.raises(InputError, match="nothing is coloured"):
        parse_references([])


def test_references_are_checked(tmp_path: Path) -> None:
    image = moving(1)[0]
    save_png(tmp_path / "a.png", image)
    warnings: list[str] = []
    assert np.array_equal(load_reference(tmp_path / "a.png", (64, 96), warnings), image) and not warnings
    assert load_reference(tmp_path / "a.png", (32, 48), warnings).shape == (32, 48, 3)
    assert len(warnings) == 1 and "96x64 and was resized to the video's 48x32" in warnings[0]
    save_png(tmp_path / "gray.png", to_gray(image))
    (tmp_path / "text.png").write_text("hello")
    for name, size, sentence in (
        ("a.png", (64, 64), "96x64 but the video is 64x64"),
        ("gray.png", (64, 96), "has no colours"),
        ("text.png", (64, 96), "can't be read as a picture"),
        ("none.png", (64, 96), "there is no picture"),
    ):
        with pytest.raises(InputError, match=sentence):
            load_reference(tmp_path / name, size, warnings)


def test_a_moving_square_keeps_its_colour(folder: Write, tmp_path: Path, lab: Tracker) -> None:
    images = moving(scale=2)  # a whole cell per frame
    save_png(tmp_path / "ref.png", images[0])
    seen: list[tuple[int, int | None]] = []
    report = colorize_video(
        folder(images),
        {0: tmp_path / "ref.png"},
        lab,
        tmp_path / "out",
        progress=lambda *done: seen.append(done),
    )
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["colorized.mp4", "report.json"]
    assert json.loads((tmp_path / "out" / "report.json").read_text()) == json.loads(json.dumps(report))
    assert seen == [(n, 6) for n in range(1, 7)]
    scores = report["psnr_ab"]
    assert scores["colorized"] > scores["copy"] + 2 and scores["copy"] > scores["gray"] + 3
    truth, first = [to_lab(image)[..., 1:] for image in images], to_lab(images[0])[..., 1:]
    for name, guess in (("copy", first), ("gray", 0 * first)):
        slow = [10 * math.log10(255**2 / np.mean((one.astype(float) - guess) ** 2)) for one in truth[1:]]
        assert [f["psnr_ab"][name] for f in report["frames"][1:]] == pytest.approx(slow, abs=2e-3)
        assert scores[name] == pytest.approx(np.mean(slow), abs=2e-3)
    assert "psnr_ab" not in report["frames"][0] and report["frames"][0]["reference"]
    last = frames_of(tmp_path / "out" / "colorized.mp4")[5]
    inside, outside = last[40:72, 64:96].mean((0, 1)), last[40:72, 8:40].mean((0, 1))
    assert inside[0] > inside[2] + 40 and outside[2] > outside[0] + 40  # red moved on, blue came back
    assert report["warnings"] == [] and not list(tmp_path.glob("*partial*"))


@pytest.mark.parametrize("direction", ["forward", "both"])
@pytest.mark.parametrize("refine", [False, True])
def test_the_colours_of_the_video_decide_nothing(
    folder: Write, tmp_path: Path, direction: str, refine: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The result is the same to the bit where the video is gray already."""
    shown: list[np.ndarray] = []

    def kept(image: np.ndarray, ab: np.ndarray) -> np.ndarray:
        shown.append(colour(image, ab))
        return shown[-1]

    monkeypatch.setattr("vidtrack.colorize.colour", kept)
    images = moving()
    for number in (0, 5):
        save_png(tmp_path / f"ref{number}.png", images[number])
    videos = {"true": images, "gray": [to_gray(image) for image in images]}
    tracker = load("lab", device="cpu", refine=refine, size=None)
    results = {}
    for name in ("true", "gray"):
        report = colorize_video(
            folder(videos[name], name),
            {0: tmp_path / "ref0.png", 5: tmp_path / "ref5.png"},
            tracker,
            tmp_path / f"out_{name}",
            direction=direction,  # type: ignore[arg-type]
        )
        results[name] = np.stack(shown), report
        shown.clear()
    assert np.array_equal(results["true"][0], results["gray"][0])
    assert results["gray"][1]["psnr_ab"] is None
    assert not any("psnr_ab" in frame for frame in results["gray"][1]["frames"])
    assert results["true"][1]["psnr_ab"]["colorized"] > 20


def test_the_session_sees_gray_only() -> None:
    images = moving(3)
    tracker = load("lab", device="cpu", size=None)
    asked: list[np.ndarray] = []
    embedder = tracker.embedder
    assert embedder is not None

    class Watched:
        device, stride, precision = embedder.device, embedder.stride, embedder.precision

        def __call__(self, image: np.ndarray, size: int | None, region: object = None) -> object:
            asked.append(image)
            return embedder(image, size)

    session = GraySession(Watched(), tracker.settings)  # type: ignore[arg-type]
    ab = to_lab(images[0])[..., 1:].copy()
    results = [session.step(images[0], Maps(ab)), *(session.step(image) for image in images[1:])]
    assert len(asked) == 3 and all(np.ptp(image, axis=2).max() == 0 for image in asked)
    plain = tracker.session()
    plain.step(to_gray(images[0]), Maps(ab))
    for image, result in zip(images[1:], results[1:], strict=True):
        assert np.array_equal(plain.step(to_gray(image)).labels.values, result.labels.values)  # the guide too


def test_parts_directions_and_frames_out_of_reach(folder: Write, tmp_path: Path, lab: Tracker) -> None:
    images = moving()
    save_png(tmp_path / "ref.png", images[3])
    video = folder(images)
    for direction, gray in (("forward", [1, 2]), ("backward", [4]), ("both", [])):
        report = colorize_video(
            video,
            {3: tmp_path / "ref.png"},
            lab,
            tmp_path / direction,
            direction=direction,  # type: ignore[arg-type]
            start=1,
            end=5,
        )
        assert [f["index"] for f in report["frames"]] == [1, 2, 3, 4]
        assert report["input"]["start"] == 1 and report["input"]["end"] == 5
        found = frames_of(tmp_path / direction / "colorized.mp4")
        colourless = [n for n, image in enumerate(found, 1) if np.ptp(image.astype(int), axis=2).mean() < 4]
        assert colourless == gray
        assert [f["index"] for f in report["frames"] if f["confidence"] == 0] == gray


def test_a_wrong_reference_is_told(folder: Write, tmp_path: Path, lab: Tracker) -> None:
    images = moving(3)
    save_png(tmp_path / "wrong.png", 255 - images[0])
    report = colorize_video(folder(images), {0: tmp_path / "wrong.png"}, lab, tmp_path / "out")
    assert len(report["warnings"]) == 1 and "doesn't look like frame 0" in report["warnings"][0]


def test_a_file_keeps_rate_and_odd_sizes(tmp_path: Path, lab: Tracker) -> None:
    images = [image[:63, :95] for image in moving(4)]
    with VideoWriter(tmp_path / "v.mp4", 95, 63, Fraction(30000, 1001)) as writer:
        for image in images:
            writer.write(image)
    size = read_frame(tmp_path / "v.mp4", 0).image.shape
    save_png(tmp_path / "ref.png", read_frame(tmp_path / "v.mp4", 0).image)
    colorize_video(tmp_path / "v.mp4", {0: tmp_path / "ref.png"}, lab, tmp_path / "out")
    with VideoReader(tmp_path / "out" / "colorized.mp4") as reader:
        assert reader.info.rate == Fraction(30000, 1001)
        assert [frame.image.shape for frame in reader] == [size] * 4


@pytest.mark.parametrize("moment", ["carrying", "writing"])
def test_out_is_absent_or_complete(
    folder: Write, tmp_path: Path, lab: Tracker, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = moving(4)
    save_png(tmp_path / "ref.png", images[0])
    video = folder(images)

    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(
        *((GraySession, "carry", fail) if moment == "carrying" else (VideoWriter, "write", fail))
    )
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(KeyboardInterrupt):
        colorize_video(video, {0: tmp_path / "ref.png"}, lab, tmp_path / "out")
    assert sorted(tmp_path.rglob("*")) == before


def test_references_outside_of_the_video(folder: Write, tmp_path: Path, lab: Tracker) -> None:
    images = moving(4)
    save_png(tmp_path / "ref.png", images[0])
    video = folder(images)
    for number, options, sentence in (
        (0, {"start": 2}, "frame 0, which is not among those from frame 2 to the end"),
        (3, {"end": 3}, "not among those from frame 0 to frame 2"),
        (9, {}, "no frame 9"),
    ):
        with pytest.raises(InputError, match=sentence):
            colorize_video(video, {number: tmp_path / "ref.png"}, lab, tmp_path / "out", **options)
        assert not (tmp_path / "out").exists()


def test_real_video_beats_the_baselines(data: Path, tmp_path: Path) -> None:
    video = data / "eval" / "CamVid-0016E5" / "JPEGImages" / "360p" / "0016E5"
    save_png(tmp_path / "ref.png", read_frame(video, 0).image)
    report = colorize_video(
        video,
        {0: tmp_path / "ref.png"},
        load(device="cpu", refine=False, topk=2),
        tmp_path / "out",
        end=8,
    )
    scores = report["psnr_ab"]
    assert scores["colorized"] > scores["copy"] + 2 > scores["gray"] + 3  # 39.4, 36.1 and 33.0 dB


def test_doubtful_frames(tmp_path: Path) -> None:
    video = doubtful_video(tmp_path / "a.mkv")
    save_png(tmp_path / "first.png", read_frame(video, 0).image)
    report = colorize_video(video, {0: tmp_path / "first.png"}, load("copy"), tmp_path / "out")
    assert report["damage"]["doubtful_frames"] == [[14, 19], [29, 29]]


@pytest.mark.parametrize("policy", ["repeat", "skip"])
def test_damaged_frames(folder: Write, tmp_path: Path, policy: OnError) -> None:
    images = moving(12)
    source = folder(images)
    (source / "00005.png").write_bytes(b"no picture")
    save_png(tmp_path / "red.png", images[0])
    report = colorize_video(
        source, {0: tmp_path / "red.png"}, load("copy"), tmp_path / "out", on_error=policy
    )
    skipped = [5] if policy == "skip" else []
    assert report["damage"]["damaged_frames"] == [5] and report["damage"]["skipped_frames"] == skipped
    assert [n for n, frame in enumerate(report["frames"]) if "psnr_ab" not in frame] == [0, *skipped]
    assert len(report["warnings"]) == 1
    with VideoReader(tmp_path / "out" / "colorized.mp4") as reader:
        shown = [np.ptp(frame.image.astype(int), axis=2).mean() for frame in reader]
    assert len(shown) == 12 and (shown[5] < 30) == (policy == "skip") and min(shown[:5] + shown[6:]) > 60


def test_stop_at_a_damaged_frame_leaves_nothing(folder: Write, tmp_path: Path) -> None:
    images = moving(6)
    source = folder(images)
    (source / "00003.png").write_bytes(b"no picture")
    save_png(tmp_path / "red.png", images[0])
    for policy, message in (
        ("stop", "frame 3 can't"),
        ("repeat", "more than a tenth"),
        ("x", "--on-error x"),
    ):
        with pytest.raises(InputError, match=message):
            colorize_video(
                *(source, {0: tmp_path / "red.png"}, load("copy"), tmp_path / "out"),
                on_error=policy,  # type: ignore[arg-type]
            )
    assert sorted(p.name for p in tmp_path.iterdir()) == ["frames", "red.png"]
