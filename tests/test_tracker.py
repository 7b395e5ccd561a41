"""The public face: sessions, propagation, names of trackers."""

import warnings
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import vidtrack
from pretrain.backbones import build, save_backbone
from pretrain.config import load_config
from vidtrack import InputError, Masks
from vidtrack.commands.options import TrackerOptions
from vidtrack.files import bundled_configs
from vidtrack.learn.clips import Clips
from vidtrack.learn.settings import TrackConfig
from vidtrack.model.colorizer import Model, VideoColorizer
from vidtrack.model.tracker_file import load_tracker, save_tracker
from vidtrack.propagate.settings import Propagation
from vidtrack.tracker import BUNDLED, Tracker, bundled_weights, load
from vidtrack.video import VideoWriter, save_png


def moving(frames: int, height: int = 64, width: int = 96) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """A red and a blue square that move four pixels per frame over a gray texture; images and ids."""
    rng = np.random.default_rng(0)
    back = rng.integers(90, 160, (20, 20, 1)).repeat(8, 0).repeat(8, 1).repeat(3, 2)[:height, :width]
    images, truth = [], []
    for t in range(frames):
        image, ids = back.astype(np.uint8).copy(), np.zeros((height, width), np.uint8)
        ids[8:32, 8 + 4 * t : 32 + 4 * t] = 2
        ids[40:60, 60 - 4 * t : 80 - 4 * t] = 9
        image[ids == 2], image[ids == 9] = (220, 30, 30), (30, 30, 220)
        images.append(image)
        truth.append(ids)
    return images, truth


def write_video(path: Path, images: list[np.ndarray]) -> None:
    with VideoWriter(path, 96, 64, Fraction(12)) as writer:
        for image in images:
            writer.write(image)


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / max(1, (a | b).sum()))


@pytest.fixture(scope="module")
def lab() -> Tracker:
    return load("lab", device="cpu")


def test_a_session_follows_two_objects(lab: Tracker) -> None:
    images, truth = moving(8)
    session = lab.session()
    first = session.step(images[0], Masks(truth[0]))
    assert np.array_equal(first.labels.ids, truth[0])
    assert first.confidence == {2: 1.0, 9: 1.0}
    for t in range(1, 8):
        result = session.step(images[t])
        assert result.index == t
    assert result.labels.ids.dtype == np.uint8
    for number in (2, 9):
        assert iou(result.labels.ids == number, truth[7] == number) > 0.7
        assert 0.5 < result.confidence[number] <= 1


def test_colours_keep_their_objects(lab: Tracker, tmp_path: Path) -> None:
    """In a session, and by files: the second picture lacks the object that the first one has first."""
    images, truth = moving(6)
    write_video(tmp_path / "v.mp4", images)
    colours = np.zeros((256, 3), np.uint8)
    colours[2], colours[9] = (255, 0, 0), (0, 0, 255)
    save_png(tmp_path / "both.png", colours[truth[0]])
    save_png(tmp_path / "one.png", colours[np.where(truth[3] == 9, 9, 0)])
    both, one = (Masks.load(tmp_path / f"{name}.png") for name in ("both", "one"))
    number = int(both.ids[truth[0] == 9][0])
    assert both.objects == [1, 2] and one.objects == [1] and number == 2
    session = lab.session()
    session.step(images[0], both)
    assert session.step(images[3], one).labels.objects == [number]
    assert session.step(images[4]).labels.objects == [number]
    given = {0: tmp_path / "both.png", 3: tmp_path / "one.png"}
    assert [r.labels.objects for r in lab.propagate(tmp_path / "v.mp4", given)][3:] == [[number]] * 3


def test_propagate_reads_files_and_names_frames(lab: Tracker, tmp_path: Path) -> None:
    images, truth = moving(6)
    write_video(tmp_path / "v.mp4", images)
    Masks(truth[2]).save(tmp_path / "m.png")
    results = list(lab.propagate(tmp_path / "v.mp4", masks={2: tmp_path / "m.png"}, start=2, end=5))
    assert [r.index for r in results] == [2, 3, 4]
    assert [r.name for r in results] == ["00002", "00003", "00004"]
    assert results[1].time == Fraction(3, 12)
    late = list(lab.propagate(tmp_path / "v.mp4", {1: Masks(truth[1])}))
    assert late[0].labels.objects == [] and late[1].labels.objects == [2, 9]  # nothing reaches frame 0


def test_copy_repeats_the_first_labels() -> None:
    images, truth = moving(3)
    session = load("copy").session()
    session.step(images[0], Masks(truth[0]))
    assert np.array_equal(session.step(images[2]).labels.ids, truth[0])


def test_a_correction_takes_effect(lab: Tracker) -> None:
    images, truth = moving(4)
    session = lab.session()
    wrong = np.zeros_like(truth[0])
    wrong[:10, :10] = 2
    session.step(images[0], Masks(wrong))
    session.step(images[1], Masks(truth[1]))
    result = session.step(images[2])
    assert iou(result.labels.ids == 9, truth[2] == 9) > 0.7


@pytest.mark.parametrize("what", ["vanish", "border", "one pixel", "whole frame"])
def test_difficult_objects_never_fail(lab: Tracker, what: str) -> None:
    images, _ = moving(4, 40, 50)
    ids = np.zeros((40, 50), np.uint8)
    if what == "vanish":
        ids[2:20, 2:20] = 1
        images[0][2:20, 2:20] = (0, 255, 0)  # seen once, never again
    elif what == "border":
        ids[:, 45:], ids[38:] = 1, 254
    elif what == "one pixel":
        ids[39, 49] = 1
    else:
        ids[:] = 1
    session = lab.session()
    session.step(images[0], Masks(ids))
    for image in images[1:]:
        result = session.step(image)
        assert result.labels.ids.shape == (40, 50)
        assert set(np.unique(result.labels.ids)) <= {0, 1, 254}
        assert set(result.confidence) == set(result.labels.objects)
    if what == "whole frame":
        assert result.labels.ids.all()


def test_frames_of_any_layout_but_one_type(lab: Tracker) -> None:
    images, truth = moving(2)
    session = lab.session()
    session.step(images[0], Masks(truth[0]))
    bgr = np.ascontiguousarray(images[1][..., ::-1])
    result = session.step(bgr[..., ::-1])  # a view with negative strides, as from a webcam
    assert iou(result.labels.ids == 2, truth[1] == 2) > 0.7
    with pytest.raises(InputError, match="uint8"):
        session.step(images[1].astype(np.float32))


def test_annotations_outside_the_range_are_an_error(lab: Tracker, tmp_path: Path) -> None:
    annotations = {0: Masks(moving(1)[1][0]), 7: Masks(moving(1)[1][0])}
    with pytest.raises(InputError, match="frame 7 is annotated, and only frames 0 to 4"):
        list(lab.propagate(tmp_path, annotations, end=5))


def test_annotations_of_every_kind(lab: Tracker, tmp_path: Path) -> None:
    images, truth = moving(3)
    write_video(tmp_path / "v.mp4", images)
    Masks(truth[0]).save(tmp_path / "m.png")
    for value in (Masks(truth[0]), tmp_path / "m.png", str(tmp_path / "m.png")):
        assert len(list(lab.propagate(tmp_path / "v.mp4", {0: value}))) == 3
        assert len(list(lab.propagate(tmp_path / "v.mp4", masks={0: value}))) == 3
    wrong: list[Any] = [Masks(truth[0]), str(tmp_path / "m.png"), {0: truth[0]}, {0: None}]
    for value in wrong:
        with pytest.raises(InputError, match=r"frame number|must be Masks"):
            list(lab.propagate(tmp_path / "v.mp4", value))
    with pytest.raises(InputError, match="no frame 9"):
        list(lab.propagate(tmp_path / "v.mp4", {0: Masks(truth[0]), 9: Masks(truth[0])}))
    session = lab.session()
    array: Any = truth[0]
    with pytest.raises(InputError, match="must be Masks"):
        session.step(images[0], array)
    frozen = images[0].copy()
    frozen.flags.writeable = False  # as numpy.frombuffer gives it
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        session.step(frozen, Masks(truth[0]))


def test_254_objects() -> None:
    ids = np.zeros((128, 160), np.uint8)
    for number in range(254):
        row, column = divmod(number, 20)
        ids[row * 8 : row * 8 + 8, column * 8 : column * 8 + 8] = number + 1
    image = np.random.default_rng(0).integers(0, 255, (16, 20, 3)).astype(np.uint8).repeat(8, 0).repeat(8, 1)
    session = load("lab", device="cpu", temperature=0.001).session()
    session.step(image, Masks(ids))
    result = session.step(image)
    assert (result.labels.ids == ids).mean() > 0.85


def test_sizes_must_agree(lab: Tracker) -> None:
    images, truth = moving(2)
    session = lab.session()
    with pytest.raises(InputError, match="needs an annotation"):
        session.step(images[0])
    with pytest.raises(InputError, match="96 x 64"):
        session.step(images[0][:32], Masks(truth[0]))
    assert session.step(images[0], Masks(truth[0])).index == 0  # refused frames are not counted
    with pytest.raises(InputError, match="one size"):
        session.step(images[1][:, :48])


def test_options_win_over_the_file(tmp_path: Path) -> None:
    path = tmp_path / "t.safetensors"
    save_tracker(path, VideoColorizer(Model()), {"radius": 5, "context": 3}, {})
    tracker = load(path, device="cpu", radius=7, margin=None, size="native")
    assert (tracker.settings.radius, tracker.settings.context) == (7, (1, 2, 3))
    assert tracker.settings.size is None and tracker.settings.margin is None
    assert tracker.describe()["weights"] == tracker.weights
    assert tracker.weights is not None


def test_changed_settings_leave_the_tracker_as_it_is() -> None:
    tracker = load("lab", topk=7)
    other = tracker.changed("fast", context="1,2", topk=3)
    assert other.embedder is tracker.embedder and tracker.settings.topk == 7
    assert (other.settings.size, other.settings.topk, other.settings.point_topk) == (480, 3, 3)
    assert other.settings.radius == 12
    assert other.settings.context == other.settings.point_context == (1, 2)
    assert load("lab").changed(preset="dino").settings == load("lab", preset="dino").settings
    with pytest.raises(InputError, match="--topk"):
        tracker.changed(topk=0)
    with pytest.raises(InputError, match="--quality fast and --preset crw"):
        tracker.changed("fast", "crw")


def test_the_default_tracker_brings_its_settings_and_presets_those_of_the_papers() -> None:
    """The default weights are compared at 640 pixels and in wider windows; a paper's code is run at 480."""
    default = load("default").settings
    assert (default.size, default.radius, default.reach, default.margin) == (640, 16, 5, 8)
    assert default == load_config(TrackConfig, "track/default", [], bundled_configs()).propagation
    assert (load("default", preset="crw").settings.size, load("small").settings.size) == (480, 480)


def test_options_of_the_command_line_are_settings() -> None:
    """`context` and `topk` hold for keypoints, too, when they are given."""
    given: dict[str, Any] = {"radius": 3, "reach": 2, "topk": 7, "temperature": 0.2, "refine": False}
    given |= {"bijective": 0.5, "annotated": 0.4, "drop_entering": False}
    settings = TrackerOptions(size="320", context="2", **given).load("copy").settings
    assert settings == Propagation(size=320, context=(1, 2), point_context=(1, 2), point_topk=7, **given)
    assert TrackerOptions(size="native").load("copy").settings == Propagation(size=None)


def test_all_weights_that_are_shipped_have_their_name() -> None:
    folder = Path(vidtrack.__file__).parent / "weights"
    assert {path.stem for path in folder.glob("*.safetensors")} == set(BUNDLED)


@pytest.mark.parametrize("name", BUNDLED)
def test_bundled_weights_are_of_the_config_of_their_name(name: str) -> None:
    """What a file says of its training is what the committed config says, so that it can be made again."""
    path = bundled_weights(name)
    assert path is not None
    made = load_tracker(path).training["config"]
    config = load_config(TrackConfig, f"track/{name}", [], bundled_configs()).model_dump(mode="json")
    for section in ("objectives", "optimizer", "ema", "seed"):
        assert made[section] == config[section]
    assert Clips().model_dump(mode="json") | made["clips"] == config["clips"]  # older files lack some
    for key in ("short_side", "rate", "split", "licences"):
        assert made["data"].get(key) == config["data"][key]


@pytest.mark.parametrize(
    ("name", "settings", "sentence"),
    [
        ("nothing", {}, "there is no tracker 'nothing'"),
        ("random:vgg", {}, "knows no network 'vgg'"),
        ("lab", {"radius": 0}, "--radius 0"),
        ("lab", {"temperature": -1.0}, "--temperature"),
        ("lab", {"device": "tpu"}, "--device tpu"),
        ("lab", {"precision": "int3"}, "precision 'int3' is unknown"),
        ("random:resnet18", {"precision": "int8"}, "int8 is only for trackers of vidtrack train"),
        (
            "lab",
            {"context": (3, 1)},
            r"^--context: give one or more distances in rising order, like 1,3,6\.$",
        ),
        ("lab", {"sice": 3}, r"no setting sice; did you mean size\?"),
        ("lab", {"zzz": 3}, "no setting zzz; there are .*radius"),
        (__file__, {}, "can't be read as weights"),
    ],
)
def test_wrong_names_and_settings(name: str, settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        load(name, **settings)


def test_a_pickled_network_is_not_run(tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(2, 2), tmp_path / "whole.pth")
    with pytest.raises(InputError, match=r"nothing in a file is run: give weights, as .*state_dict") as told:
        load(str(tmp_path / "whole.pth"))
    assert "timm" not in str(told.value)


def test_random_weights_are_the_same_each_time() -> None:
    image = np.random.default_rng(0).integers(0, 255, (32, 40, 3)).astype(np.uint8)
    one, two = (load("random:resnet18", device="cpu").embedder for _ in range(2))
    assert one is not None and two is not None
    assert torch.equal(one(image, None), two(image, None))


def test_frames_in_memory_are_no_video(lab: Tracker) -> None:
    with pytest.raises(InputError, match=r"a path, not list: frames in memory go through session"):
        next(lab.propagate([np.zeros((8, 8, 3), np.uint8)], {0: Masks(np.eye(8, dtype=np.uint8))}))  # type: ignore[arg-type]


def test_the_package_offers_its_public_names() -> None:
    assert set(vidtrack.__all__) <= set(dir(vidtrack))
    for name in vidtrack.__all__:
        assert getattr(vidtrack, name) is not None
    with pytest.raises(AttributeError):
        _ = vidtrack.nothing


@pytest.mark.parametrize("name", BUNDLED)
def test_the_weights_that_come_along_follow_a_real_bear(data: Path, name: str) -> None:
    from PIL import Image

    folder = data / "eval" / "DAVIS-2016-dev"
    first = np.array(Image.open(folder / "Annotations/480p/bear/00000.png")) > 0
    tracker = load(name, device="cpu", size=240)
    results = list(
        tracker.propagate(folder / "JPEGImages/480p/bear", {0: Masks(first.astype(np.uint8))}, end=11)
    )
    truth = np.array(Image.open(folder / "Annotations/480p/bear/00010.png")) > 0
    assert iou(results[10].labels.ids > 0, truth) > 0.8


@pytest.mark.parametrize("kind", ["random", "backbone", "tracker"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_any_network_computes_in_the_precision_asked_for(kind: str, precision: Any, tmp_path: Path) -> None:
    name = {"random": "random:resnet18", "tracker": "small"}.get(kind, str(tmp_path / "backbone.safetensors"))
    if kind == "backbone":
        save_backbone(build("resnet18", "layer3", ("layer3",)), Path(name))
    tracker = load(name, precision=precision)
    assert tracker.embedder is not None
    embeddings = tracker.embedder(moving(1)[0][0], None)  # [h, w, C]
    assert embeddings.dtype == getattr(torch, precision)
    assert tracker.describe()["precision"] == precision
