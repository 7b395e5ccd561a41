"""Training end to end on tiny videos: it learns, resumes exactly, and reports what it skipped."""

import json
import os
import shutil
import signal
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from pretrain.backbones import build, save_backbone
from pretrain.errors import InputError
from vidtrack.learn.frames import build_cache, sampled_frames, segments, shares
from vidtrack.learn.module import ColorizerTraining
from vidtrack.learn.settings import Data, TrackConfig
from vidtrack.learn.train import train
from vidtrack.model.embedder import NetworkEmbedder
from vidtrack.model.tracker_file import load_tracker
from vidtrack.tracker import load
from vidtrack.video import VideoWriter


def write_video(path: Path, frames: int, seed: int, rate: int = 6) -> None:
    """Blobs of colour that drift over a textured background."""
    rng = np.random.default_rng(seed)
    back = rng.integers(0, 255, (10, 14, 3)).astype(np.uint8).repeat(8, 0).repeat(8, 1)
    with VideoWriter(path, 96, 64, Fraction(rate)) as writer:
        for t in range(frames):
            image = np.roll(back, t, axis=1)[:64, :96].copy()
            image[20:44, 10 + 2 * t : 34 + 2 * t] = (250, 200, 20)
            writer.write(image)


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    for seed in range(3):
        write_video(folder / f"v{seed}.mp4", 10, seed)
    (folder / "broken.mp4").write_bytes(b"not a video")
    return folder


def config(**changes: Any) -> TrackConfig:
    values: dict[str, Any] = {
        "data": {"short_side": 48, "cache_gb": 0.01},
        "clips": {"frames": 3, "gap": [1, 1], "crop": 32},
        "anchors": {"grid": 2, "cross_grid": 2},
        "model": {"head": [16, 8]},
        "optimizer": {"steps": 4, "batch": 2, "warmup_steps": 1, "learning_rate": 1e-3},
        "engine": {"precision": "32", "log_every": 1},
    }
    return TrackConfig.model_validate(values | changes)


def test_a_stopped_run_ends_with_the_same_weights(videos: Path, tmp_path: Path) -> None:
    whole = train(videos, config(), tmp_path / "whole", device="cpu")
    assert whole.done and whole.steps == 4
    assert [name for name, _ in whole.skipped] == ["broken.mp4"]
    log = [json.loads(line) for line in (tmp_path / "whole" / "log.jsonl").read_text().splitlines()]
    assert [record["step"] for record in log] == [1, 2, 3, 4]
    for _ in range(8):  # stopped again and again, at the latest after each step
        part = train(videos, config(), tmp_path / "part", device="cpu", max_minutes=0)
        if part.done:
            break
        assert not (tmp_path / "part" / "tracker.safetensors").exists()
    assert part.done
    one, two = (load_file(tmp_path / run / "tracker.safetensors") for run in ("whole", "part"))
    assert one.keys() == two.keys()
    assert all(torch.equal(one[key], two[key]) for key in one)
    assert not (tmp_path / "whole" / "frames").exists()  # the cache goes when the run is done
    before = (tmp_path / "whole" / "tracker.safetensors").stat().st_mtime_ns
    told = list[str]()
    again = train(videos, config(), tmp_path / "whole", device="cpu", announce=told.append)
    assert again.done and not (tmp_path / "whole" / "frames").exists()  # nothing is left to do
    assert len(told) == 1 and "was finished before: nothing more is learned" in told[0]
    assert (tmp_path / "whole" / "tracker.safetensors").stat().st_mtime_ns == before
    tracker = load(tmp_path / "whole" / "tracker.safetensors", device="cpu")
    assert tracker.settings.radius == 12


def test_the_time_is_told_before_and_changes_nothing(videos: Path, tmp_path: Path) -> None:
    averaged, told = config(ema={"decay": 0.9}), list[str]()
    train(videos, averaged, tmp_path / "silent", device="cpu")
    train(videos, averaged, tmp_path / "told", device="cpu", announce=told.append)
    assert any(line.startswith("about ") and "for 4 steps" in line for line in told)
    one, two = (load_file(tmp_path / run / "tracker.safetensors") for run in ("silent", "told"))
    assert all(torch.equal(one[key], two[key]) for key in one)


def test_frozen_stages_stay_as_they_are_in_a_run(videos: Path, tmp_path: Path) -> None:
    frozen = config(transfer={"freeze": 2}, ema={"decay": 0.5})
    torch.manual_seed(frozen.seed)
    before = ColorizerTraining(frozen).best().state_dict()
    train(videos, frozen, tmp_path / "run", device="cpu")
    after = load_file(tmp_path / "run" / "tracker.safetensors")
    names = ("backbone.conv1", "backbone.bn1", "backbone.layer1")
    for key, value in before.items():
        if "num_batches" not in key:
            same = torch.equal(value.to(after[key].dtype), after[key])
            assert same or not key.startswith(names), key
    assert any(not torch.equal(before[key], after[key]) for key in before if "layer2.0.bn1.running" in key)


def test_patches_of_colours_divide_a_cell(videos: Path, tmp_path: Path) -> None:
    pytest.importorskip("timm")
    values = {"objectives": {"lab": 1.0}, "lab": {"detail": 4}, "clips": {"frames": 2, "crop": 42}}
    wrong = config(**values, model={"backbone": "random:vit_small_patch14_dinov2"})
    with pytest.raises(InputError, match=r"lab\.detail=4 must divide the 14 pixels"):
        train(videos, wrong, tmp_path / "run", device="cpu")


def test_batch_norms_of_any_backbone_learn() -> None:
    pytest.importorskip("timm")
    module = ColorizerTraining(config(model={"backbone": "random:resnet10t", "head": [16, 8]}))
    assert all(part.training for part in module.model.modules())


def test_a_run_goes_on_from_a_tracker(videos: Path, tmp_path: Path) -> None:
    train(videos, config(), tmp_path / "first", device="cpu")
    still = {"steps": 1, "batch": 2, "warmup_steps": 1, "learning_rate": 1e-9, "weight_decay": 0.0}
    values = config(optimizer=still).model_dump() | {"tracker": str(tmp_path / "first"), "model": {}}
    train(videos, TrackConfig.model_validate(values), tmp_path / "second", device="cpu")
    one, two = (load_file(tmp_path / run / "tracker.safetensors") for run in ("first", "second"))
    for key in one:  # backbone and head; only the statistics of a step at no rate have moved
        moves = "running" in key or "num_batches" in key
        assert moves or torch.allclose(one[key].float(), two[key].float(), rtol=0, atol=1e-8), key
    assert any(not torch.equal(one[key], two[key]) for key in one)
    record = load_tracker(tmp_path / "second" / "tracker.safetensors").training
    assert record["began_from"]["steps"] == 4 and str(tmp_path) not in json.dumps(record)
    with pytest.raises(InputError, match="--backbone and --tracker both say"):
        train(
            videos,
            TrackConfig.model_validate(values | {"model": {"backbone": "random:resnet18"}}),
            tmp_path / "third",
            device="cpu",
        )
    with pytest.raises(InputError, match="settings of model"):
        train(
            videos,
            TrackConfig.model_validate(values | {"model": {"head": [16, 8]}}),
            tmp_path / "third",
            device="cpu",
        )
    with pytest.raises(InputError, match="can't learn"):
        train(
            videos, TrackConfig.model_validate(values | {"tracker": "lab"}), tmp_path / "third", device="cpu"
        )


@pytest.mark.parametrize("stop", [2, 5, 7])
def test_one_stop_in_the_middle_changes_nothing(videos: Path, tmp_path: Path, stop: int) -> None:
    """Several steps follow the resume: the second and third of them must be right, too."""
    longer = config(optimizer={"steps": 9, "batch": 2, "warmup_steps": 1, "learning_rate": 1e-3})

    def interrupt(record: dict[str, float]) -> None:
        if record["step"] == stop:
            os.kill(os.getpid(), signal.SIGINT)

    train(videos, longer, tmp_path / "whole", device="cpu")
    first = train(videos, longer, tmp_path / "part", device="cpu", report=interrupt)
    assert first.interrupted and first.steps == stop
    assert train(videos, longer, tmp_path / "part", device="cpu").done
    one, two = (load_file(tmp_path / run / "tracker.safetensors") for run in ("whole", "part"))
    assert all(torch.equal(one[key], two[key]) for key in one)


def state(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("minutes", [0, None])  # stopped, finished
@pytest.mark.parametrize("change", ["missing", "new", "frames"])
def test_other_videos_never_continue_a_run(
    videos: Path, tmp_path: Path, minutes: float | None, change: str
) -> None:
    data, out = tmp_path / "data", tmp_path / "run"
    shutil.copytree(videos, data)
    train(data, config(), out, device="cpu", max_minutes=minutes)
    before = state(out)
    said = f"v1.mp4 is {change}"
    if change == "missing":
        (data / "v1.mp4").unlink()
    elif change == "new":
        said = "w1.mp4 is new, and 1 more"
        for seed, name in ((11, "w1.mp4"), (12, "w2.mp4")):
            write_video(data / name, 10, seed)
    else:
        said = "v1.mp4 has other frames"
        (data / "v1.mp4").unlink()
        write_video(data / "v1.mp4", 14, 13)
        if minutes is None:  # names alone are compared
            assert train(data, config(), out, device="cpu").done
            return
    with pytest.raises(InputError, match=rf"other videos than --data holds now \({said}\): restore them"):
        train(data, config(), out, device="cpu")
    left = state(out)
    assert {name: left[name] for name in before if not name.startswith(("index", "frames"))} == {
        name: content for name, content in before.items() if not name.startswith(("index", "frames"))
    }
    assert change != "missing" or left == before
    for name in ("v1.mp4", "w1.mp4", "w2.mp4"):
        (data / name).unlink(missing_ok=True)
    shutil.copy2(videos / "v1.mp4", data)
    (data / "broken.mp4").unlink()  # nothing was learned from it
    assert train(data, config(), out, device="cpu").done


def test_a_backbone_file_with_another_input_is_kept(videos: Path, tmp_path: Path) -> None:
    save_backbone(build("resnet18", "layer3", ("layer3",), "l"), tmp_path / "gray.safetensors")
    model = {"backbone": str(tmp_path / "gray.safetensors"), "head": [16, 8]}
    train(videos, config(model=model), tmp_path / "run", device="cpu")
    embedder = load(tmp_path / "run" / "tracker.safetensors", device="cpu").embedder
    assert isinstance(embedder, NetworkEmbedder) and embedder.model.backbone.input == "l"


def test_another_config_never_continues_a_run(videos: Path, tmp_path: Path) -> None:
    train(videos, config(), tmp_path / "run", device="cpu", max_minutes=0)
    with pytest.raises(InputError, match=r"other settings \(seed: 0 there, 1 here\)"):
        train(videos, config(seed=1), tmp_path / "run", device="cpu")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").write_text("")
    with pytest.raises(InputError, match="holds no run"):
        train(videos, config(), tmp_path / "mine", device="cpu")


def test_the_loss_falls(videos: Path, tmp_path: Path) -> None:
    steps = {"steps": 25, "batch": 3, "warmup_steps": 1, "learning_rate": 2e-3}
    losses: list[float] = []
    train(
        videos,
        config(optimizer=steps),
        tmp_path / "run",
        device="cpu",
        report=lambda record: losses.append(record["loss"]),
    )
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5])


def test_all_objectives_in_one_run_that_is_stopped(videos: Path, tmp_path: Path) -> None:
    several = config(
        objectives={"cycle": 0.5, "anchors": 1.0, "quantized": 0.1, "lab": 0.3},
        quantized={"colors": 4, "sampled_pixels": 400},
        optimizer={"steps": 3, "batch": 2, "warmup_steps": 1, "learning_rate": 1e-3},
    )
    train(videos, several, tmp_path / "whole", device="cpu")
    stopped = 0
    while not train(videos, several, tmp_path / "part", device="cpu", max_minutes=0).done:
        stopped += 1
    assert stopped == 2
    one, two = (load_file(tmp_path / run / "tracker.safetensors") for run in ("whole", "part"))
    assert not any("palette" in key for key in one)
    assert all(torch.equal(one[key], two[key]) for key in one)
    for line in (tmp_path / "whole" / "log.jsonl").read_text().splitlines():
        record = json.loads(line)
        parts = (weight * record[f"{name}/loss"] for name, weight in several.objectives.items())
        assert record["loss"] == pytest.approx(sum(parts), rel=1e-5)
        assert {"anchors/agreement", "cycle/accuracy", "lab/error", "quantized/accuracy"} <= record.keys()


def test_decoding_takes_frames_by_their_time(tmp_path: Path) -> None:
    write_video(tmp_path / "v.mp4", 30, 0, rate=30)
    assert np.stack(list(sampled_frames(tmp_path / "v.mp4", 48, 6.0))).shape == (6, 48, 72, 3)
    assert len(list(sampled_frames(tmp_path / "v.mp4", 48, 60.0))) == 30


def test_shares_and_segments() -> None:
    assert shares([10, 100, 1000], 210) == 100
    assert shares([10, 20], 1000) == 20
    assert segments(10, 20) == [slice(0, 10)]
    parts = segments(1000, 64)
    assert [p.stop - p.start for p in parts] == [32, 32]
    assert parts[-1].stop == 1000
    assert segments(1000, 20) == [slice(490, 510)]  # not the titles that it begins with
    for share in range(1, 200):
        parts = segments(200, share)
        assert 0.9 * share <= sum(p.stop - p.start for p in parts) <= share
        assert all(a.stop <= b.start for a, b in pairwise(parts)) and parts[-1].stop <= 200
        assert all(p.stop - p.start >= min(28, share) for p in segments(200, share, 28))


def test_a_split_is_obeyed(videos: Path, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    for name in ("v0.mp4", "v1.mp4"):
        (folder / name).write_bytes((videos / name).read_bytes())
    (folder / "clips.csv").write_text("file,split\nv0.mp4,train\nv1.mp4,val\n")
    cache = build_cache(folder, Data(short_side=48), tmp_path / "cache", 3)
    assert cache.names == ["v0.mp4"]
    with pytest.raises(InputError, match="split 'test'"):
        build_cache(folder, Data(short_side=48, split="test"), tmp_path / "cache", 3)


def test_folders_that_teach_nothing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no folder or video"):
        build_cache(tmp_path / "no", Data(), tmp_path / "cache", 3)
    with pytest.raises(InputError, match="no video files"):
        build_cache(tmp_path, Data(), tmp_path / "cache", 3)
    (tmp_path / "a.mp4").write_bytes(b"x")
    told = list[str]()
    with pytest.raises(InputError, match="no video that can be learned from"):
        build_cache(tmp_path, Data(), tmp_path / "cache", 3, announce=told.append)
    assert len(told) == 1 and "learned from" in told[0]  # and no plan for nothing
