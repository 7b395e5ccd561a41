"""`vidtrack colorize --backbone`: photos as users type it, and the parts it is made of."""

import json
import re
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from skimage.color import rgb2lab

from pretrain.images import ImageSet
from pretrain.run import load_method, pretrain
from pretrain.settings import schema
from vidtrack.photo import colour_photos, guess, load_colours, recolour, score
from vidtrack.video import VideoWriter, read_image, save_png


def make_run(out: Path, method: str) -> Path:
    """A finished run of one step."""
    pixels = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    values = {
        "method": method,
        "data": {"size": 32},
        "backbone": {"stem": "standard"},
        "optimizer": {"steps": 1, "batch": 2},
    }
    images = ImageSet(pixels, None, (), ("a", "b"))
    assert pretrain(lambda data: images, schema(method).model_validate(values), out, device="cpu").done
    return out


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    for method in ("colorization", "split_brain", "rotation"):
        make_run(folder / method, method)
    return folder


def picture(height: int, width: int) -> np.ndarray:
    """Smooth colours inside the gamut, uint8 `[H, W, 3]`."""
    coarse = np.random.default_rng(height).uniform(70, 180, (3, 4, 3)).astype(np.float32)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC).clip(60, 190).astype(np.uint8)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder with photos of all kinds."""
    image = picture(50, 70)
    save_png(tmp_path / "photo.png", image)
    cv2.imwrite(str(tmp_path / "wide.jpg"), picture(40, 130))
    save_png(tmp_path / "gray.png", image[..., 0])
    save_png(tmp_path / "deep.png", image[..., 0].astype(np.uint16) * 257)
    save_png(tmp_path / "alpha.png", np.dstack([image, np.full((50, 70), 9, np.uint8)]))
    (tmp_path / "broken.jpg").write_bytes((tmp_path / "wide.jpg").read_bytes()[:40])
    with VideoWriter(tmp_path / "film.mp4", 64, 48, Fraction(5)) as writer:
        writer.write(picture(48, 64))
        writer.write(picture(48, 64)[::-1])
    (tmp_path / "film.mp4").rename(tmp_path / "film")  # what it is called says nothing
    (tmp_path / "other").mkdir()
    save_png(tmp_path / "other" / "photo.png", image)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: object) -> int:
    from vidtrack.cli import app

    with pytest.raises(SystemExit) as ended:
        app(["colorize", *(str(a) for a in arguments)])
    return int(ended.value.code or 0)


@pytest.mark.parametrize("method", ["colorization", "split_brain"])
def test_a_photo_gets_colours(
    here: Path, runs: Path, method: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("photo.png", "--backbone", runs / method) == 0
    told = capsys.readouterr()
    assert told.out.startswith("photo_colorized: photo.png report.json; ") and not told.err
    assert re.search(r"colorized \d+\.\d dB, gray \d+\.\d dB\n$", told.out)
    out = here / "photo_colorized"
    assert sorted(p.name for p in out.iterdir()) == ["photo.png", "report.json"]
    before, after = read_image(here / "photo.png"), read_image(out / "photo.png")
    assert after.shape == before.shape and not np.array_equal(after, before)
    inside = ((after > 0) & (after < 255)).all(axis=2)
    light = rgb2lab(before)[..., 0] - rgb2lab(after)[..., 0]
    assert inside.mean() > 0.5 and np.abs(light[inside]).max() < 0.5
    report = json.loads((out / "report.json").read_text())
    assert report["schema"] == 1 and report["size"] == 32 and len(report["weights"]) == 64
    assert report["photos"][0]["width"] == 70 and set(report["photos"][0]["psnr_ab"]) == {"colorized", "gray"}


def test_several_photos_of_any_kind(here: Path, runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photos = ["gray.png", "deep.png", "alpha.png", "photo.png", "wide.jpg"]
    backbone = ("--backbone", runs / "colorization")
    assert run(*photos, *backbone, "--out", "out", "--quiet", "--threads", 1, "--device", "cpu") == 0
    told = capsys.readouterr()
    assert not told.out and not told.err
    names = {f"{Path(photo).stem}.png" for photo in photos}
    assert {p.name for p in (here / "out").iterdir()} == {*names, "report.json"}
    found = {name: read_image(here / "out" / name) for name in names}
    assert found["wide.png"].shape == (40, 130, 3) and found["gray.png"].shape == (50, 70, 3)
    assert np.array_equal(found["gray.png"], found["deep.png"])
    assert np.array_equal(found["alpha.png"], found["photo.png"])
    report = json.loads((here / "out" / "report.json").read_text())
    scored = {record["name"]: record["psnr_ab"] for record in report["photos"]}
    assert scored["gray.png"] is None and scored["wide.png"]["gray"] > 0


def test_an_output_is_replaced_only_when_told(
    here: Path, runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("photo.png", "--backbone", runs / "colorization")
    assert run(*arguments) == 0
    written = (here / "photo_colorized" / "photo.png").stat().st_mtime_ns
    assert run(*arguments) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert (here / "photo_colorized" / "photo.png").stat().st_mtime_ns == written
    assert run(*arguments, "--overwrite") == 0
    assert (here / "photo_colorized" / "photo.png").stat().st_mtime_ns > written
    inside = ("photo_colorized/photo.png", *arguments[1:], "--out", "photo_colorized")
    assert run(*inside, "--overwrite") == 2 and "lies in the output" in capsys.readouterr().err


MISTAKES = {
    "other method": (
        ["photo.png", "--backbone", "RUNS/rotation"],
        "a run of rotation, which knows no colours",
    ),
    "no run": (["photo.png", "--backbone", "other"], "other holds no finished run"),
    "missing run": (["photo.png", "--backbone", "nothing"], "nothing holds no finished run"),
    "no photo": (["nothing.jpg", "--backbone", "RUNS/colorization"], "there is no photo nothing.jpg"),
    "folder": (["other", "--backbone", "RUNS/colorization"], "other is a folder"),
    "video": (["film", "--backbone", "RUNS/colorization"], "to colour a video give --reference"),
    "unreadable": (
        ["photo.png", "broken.jpg", "--backbone", "RUNS/colorization"],
        "broken.jpg can't be read",
    ),
    "same name": (
        ["photo.png", "other/photo.png", "--backbone", "RUNS/colorization"],
        "would both become photo.png",
    ),
    "device": (["photo.png", "--backbone", "RUNS/colorization", "--device", "tpu"], "--device tpu"),
    "out": (["photo.png", "--backbone", "RUNS/colorization", "--out", "photo.png/x"], "photo.png"),
    "reference": (
        ["photo.png", "--backbone", "RUNS/colorization", "--reference", "photo.png"],
        "leave out --reference (for videos only)",
    ),
    "several options": (
        ["photo.png", "--backbone", "RUNS/colorization", "--topk", "2", "--start", "0", "--refine"],
        "leave out --topk, --start, --refine (for",
    ),
    "tracker": (
        ["photo.png", "--backbone", "RUNS/colorization", "--precision", "auto", "--context", "7"],
        "leave out --precision, --context (for",
    ),
    "photo without run": (["photo.png", "--reference", "photo.png"], "photo.png is a photo: add --backbone"),
    "two videos": (["a.mp4", "b.mp4", "--reference", "photo.png"], "only one video"),
    "no reference": (["a.mp4"], "--reference colour.png"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_one_sentence(
    here: Path, runs: Path, mistake: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(here.rglob("*"))
    arguments, sentence = MISTAKES[mistake]
    assert run(*(a.replace("RUNS", str(runs)) for a in arguments)) == 2
    told = capsys.readouterr().err
    assert told.startswith("Error: ") and told.count("\n") == 1 and sentence in told, told
    assert sorted(here.rglob("*")) == before


@pytest.mark.parametrize("name", ["a.gif", "a.webp", "a.png"])
def test_an_animation_is_no_photo(
    here: Path, runs: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    pictures = [Image.fromarray(np.roll(picture(16, 16), n, axis=0)) for n in range(3)]
    pictures[0].save(here / name, save_all=True, append_images=pictures[1:])
    assert run(name, "--backbone", runs / "colorization") == 2
    assert f"{name} is an animation" in capsys.readouterr().err
    pictures[0].save(here / name)
    assert run(name, "--backbone", runs / "colorization") == 0


def test_damaged_weights_are_told(here: Path, runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    damaged = here / "damaged"
    damaged.mkdir()
    for name in ("config.json", "model.safetensors"):
        (damaged / name).write_bytes((runs / "colorization" / name).read_bytes())
    weights = damaged / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    assert run("photo.png", "--backbone", damaged) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and "can't be read as weights" in told


def test_it_is_what_the_method_gives_at_its_own_size(runs: Path) -> None:
    method, _ = load_method(runs / "colorization")
    image = picture(32, 64)  # whole cells: nothing is resized or padded
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
    expected = method.colourise(pixels)[0].permute(1, 2, 0).mul(255).round().numpy()
    found = recolour(image, guess(image, load_colours(runs / "colorization")))
    assert np.abs(found.astype(int) - expected).max() <= 1


def test_the_network_sees_the_whole_photo_at_its_size(runs: Path) -> None:
    method = load_colours(runs / "colorization")
    assert guess(picture(480, 640), method).shape == (32, 43, 2)
    assert guess(picture(20, 10), method).shape == (64, 32, 2)
    assert guess(picture(1, 1), method).shape == (32, 32, 2)
    assert guess(picture(2, 4000), method).shape == (1, 256, 2)  # a strip isn't enlarged without end


def test_strips_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    image, ab = picture(37, 50), np.random.default_rng(0).uniform(-30, 30, (8, 11, 2)).astype(np.float32)
    whole = recolour(image, ab)
    monkeypatch.setattr("vidtrack.photo.STRIP", 130)
    assert np.array_equal(recolour(image, ab), whole)
    assert whole.dtype == np.uint8 and whole.shape == image.shape


def test_recolouring_with_the_own_colours_changes_nothing() -> None:
    image = picture(30, 40)
    ab = rgb2lab(image)[..., 1:].astype(np.float32)
    assert np.abs(recolour(image, ab).astype(int) - image).max() <= 1
    scores = score(image, ab)
    assert scores is not None and scores["colorized"] > 60 > scores["gray"]
    assert score(image[..., :1].repeat(3, axis=2), ab) is None


def test_progress_is_told(here: Path, runs: Path) -> None:
    told: list[tuple[int, int | None]] = []
    colour_photos(
        [here / "photo.png", here / "gray.png"],
        runs / "colorization",
        here / "out",
        progress=lambda done, total: told.append((done, total)),
    )
    assert told == [(1, 2), (2, 2)]
