"""`--overwrite` replaces results, and never what the user gave."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pretrain.errors import InputError
from vidtrack.files import require_outside
from vidtrack.job import Annotations, LabelOptions, Plan, propagate_video, read_annotations
from vidtrack.tracker import Tracker

from .conftest import HEIGHT, WIDTH, masks


@pytest.fixture
def out(clip: Path, lab: Tracker, tmp_path: Path) -> Path:
    propagate_video(clip, {0: masks(0)}, lab, tmp_path / "out", Plan(end=8, saves=frozenset({"rle"})))
    return tmp_path / "out"


def again(video: Path, lab: Tracker, out: Path, *given: str) -> None:
    annotations = read_annotations(LabelOptions(mask=given), (HEIGHT, WIDTH), video=video)
    propagate_video(video, annotations, lab, out, Plan(end=8, overwrite=True))


@pytest.mark.parametrize("name", ["fix.png", "masks/fix.png", "more/00006.png"])
def test_a_mask_of_the_users_among_the_results_stays(clip: Path, lab: Tracker, out: Path, name: str) -> None:
    (out / name).parent.mkdir(exist_ok=True)
    masks(6).save(out / name)
    with pytest.raises(InputError, match="lies in the output"):
        again(clip, lab, out, str(out / "masks" / "00000.png"), f"6={out / name}")
    assert (out / name).is_file() and (out / "report.json").is_file()


@pytest.mark.parametrize("given", ["masks/00006.png", "masks.json"])
def test_results_with_corrections_can_be_given_again(clip: Path, lab: Tracker, out: Path, given: str) -> None:
    again(clip, lab, out, *([f"0={out / 'masks/00000.png'}"] if "png" in given else []), f"6={out / given}")
    assert (out / "masks" / "00007.png").is_file()


@pytest.mark.parametrize("place", ["out", "out.partial/deeper"])
def test_a_video_among_the_results_stays(clip: Path, lab: Tracker, out: Path, place: str) -> None:
    video = out.parent / place / "mine.mp4"
    video.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(clip, video)
    with pytest.raises(InputError, match=r"mine\.mp4 lies in the output"):
        propagate_video(video, Annotations({0: masks(0)}, {}), lab, out, Plan(end=8, overwrite=True))
    assert video.is_file()


def test_links_lead_into_the_results(tmp_path: Path) -> None:
    (tmp_path / "out" / "a").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "out")
    for inside in ("out", "link", "link/a", "out/a/missing.png"):
        with pytest.raises(InputError, match="lies in the output"):
            require_outside(tmp_path / "out", [tmp_path / inside])
        with pytest.raises(InputError, match="lies in the output"):
            require_outside(tmp_path / "link", [tmp_path / inside])
    (tmp_path / "out" / "elsewhere").symlink_to(tmp_path)
    require_outside(tmp_path / "out", [tmp_path / "out2", tmp_path])
