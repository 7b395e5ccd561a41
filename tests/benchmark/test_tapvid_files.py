"""The published layouts of TAP-Vid, written small, and what is said of files that are not like them."""

import io
import os
import pickle

import numpy as np
import pytest
from PIL import Image

from pretrain.errors import InputError
from vidtrack.benchmark.tapvid_files import read_sequences

POINTS, FRAMES, SIZE = 3, 4, (12, 16)


def make(seed: int = 0, frames: int = FRAMES, size: tuple[int, int] = SIZE) -> dict:
    """A sequence as the authors write it."""
    random = np.random.default_rng(seed)
    return {
        "video": random.integers(0, 256, (frames, *size, 3), np.uint8),
        "points": random.random((POINTS, frames, 2), np.float32),
        "occluded": np.arange(POINTS * frames).reshape(POINTS, frames) % 5 == 4,
    }


def jpegs(video: np.ndarray) -> list[bytes]:
    pictures = []
    for frame in video:
        stream = io.BytesIO()
        Image.fromarray(frame).save(stream, "JPEG")
        pictures.append(stream.getvalue())
    return pictures


def save(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(content))
    return path


def check(sequence, entry):
    assert np.array_equal(sequence.points, entry["points"].astype(np.float64))
    assert np.array_equal(sequence.occluded, entry["occluded"])
    assert (sequence.frames, sequence.size) == (len(entry["video"]), entry["video"].shape[1:3])
    assert np.array_equal(np.stack(list(sequence.images())), entry["video"])
    assert np.array_equal(sequence.image(1), entry["video"][1])


def test_davis_is_a_dict_by_name(tmp_path):
    content = {"goat": make(1), "bike-packing": make(2, frames=6, size=(10, 20))}
    file = save(tmp_path / "tapvid_davis" / "tapvid_davis.pkl", content)
    (file.parent / "README.md").write_text("as in the archive")
    for data in (file, file.parent):
        sequences = read_sequences(data)
        assert [sequence.name for sequence in sequences] == ["goat", "bike-packing"]
        for sequence in sequences:
            check(sequence, content[sequence.name])


def test_rgb_stacking_is_a_list(tmp_path):
    content = [make(1), make(2)]
    sequences = read_sequences(save(tmp_path / "tapvid_rgb_stacking.pkl", content))
    assert [sequence.name for sequence in sequences] == ["00000", "00001"]
    for sequence, entry in zip(sequences, content, strict=True):
        check(sequence, entry)


@pytest.mark.parametrize("form", [np.array, list, tuple, lambda p: np.array(p, object)])
def test_kinetics_has_jpeg_bytes_in_shards(tmp_path, form):
    entries = [make(seed) for seed in range(5)]
    for shard in range(3):
        content = [{**e, "video": form(jpegs(e["video"]))} for e in entries[2 * shard : 2 * shard + 2]]
        save(tmp_path / f"{shard:04}_of_0003.pkl", content)
    sequences = read_sequences(tmp_path)
    assert [sequence.name for sequence in sequences] == [f"{i:05}" for i in range(5)]
    for sequence, entry in zip(sequences, entries, strict=True):
        decoded = [np.asarray(Image.open(io.BytesIO(p)).convert("RGB")) for p in jpegs(entry["video"])]
        check(sequence, {**entry, "video": np.stack(decoded)})


def test_gray_jpeg_pictures_become_rgb(tmp_path):
    gray = [np.full(SIZE, 50 * t, np.uint8) for t in range(FRAMES)]
    entry = {**make(), "video": jpegs(np.stack(gray))}
    (sequence,) = read_sequences(save(tmp_path / "a.pkl", [entry]))
    assert sequence.image(2).tolist() == np.full((*SIZE, 3), 100).tolist()


def test_robotap_is_several_dicts(tmp_path):
    for split in (10, 2):
        save(tmp_path / f"robotap_split{split}.pkl", {f"video_{split}": make(split)})
    assert [sequence.name for sequence in read_sequences(tmp_path)] == ["video_2", "video_10"]


@pytest.mark.parametrize("tracks", ["points", "tracks"])
@pytest.mark.parametrize("flags", ["occluded", "visibility"])
def test_npz_files_have_one_sequence_each(tmp_path, tracks, flags):
    entries = {name: make(seed) for seed, name in enumerate(["b", "a2", "a10"])}
    for name, entry in entries.items():
        seen = entry["occluded"] if flags == "occluded" else ~entry["occluded"]
        arrays = {"video": entry["video"], tracks: entry["points"], flags: seen, "more": np.arange(2)}
        np.savez_compressed(tmp_path / f"{name}.npz", **arrays)
    sequences = read_sequences(tmp_path)
    assert [sequence.name for sequence in sequences] == ["a2", "a10", "b"]
    for sequence in sequences:
        check(sequence, entries[sequence.name])


def test_npz_with_jpeg_bytes_and_a_strange_name(tmp_path):
    entry = make()
    path = tmp_path / "a file.dat"  # the content decides, not the name
    with path.open("wb") as stream:
        np.savez(stream, **{**entry, "video": np.array(jpegs(entry["video"]))})
    (sequence,) = read_sequences(path)
    assert sequence.name == "a_file" and sequence.image(0).shape == (*SIZE, 3)


def test_names_can_be_those_of_folders(tmp_path):
    content = {"a/b c": make(1), "..": make(2), "ü-1.mp4": make(3)}
    names = [sequence.name for sequence in read_sequences(save(tmp_path / "a.pkl", content))]
    assert names == ["a_b_c", "__", "ü-1.mp4"]


def test_arrays_in_other_orders_and_types(tmp_path):
    entry = make()
    content = {
        "video": np.asfortranarray(entry["video"]),
        "points": entry["points"].astype(">f8")[:, :, ::-1][:, :, ::-1],
        "occluded": entry["occluded"].astype(np.int32),
    }
    (sequence,) = read_sequences(save(tmp_path / "a.pkl", [content]))
    check(sequence, entry)


def test_what_occluded_points_say_is_not_looked_at(tmp_path):
    entry = make()
    entry["points"][entry["occluded"]] = np.nan
    entry["points"][0, 0] = -0.2, 1.3  # an annotator's curve may leave the frame
    (sequence,) = read_sequences(save(tmp_path / "a.pkl", [entry]))
    assert np.isnan(sequence.points[sequence.occluded]).all()


def test_pickled_sequences_are_small_and_find_their_frames_again(tmp_path):
    entry = make(size=(100, 100))
    save(tmp_path / "b.pkl", [make(5)])
    (sequence,) = read_sequences(save(tmp_path / "a.pkl", {"x": entry}))
    data = pickle.dumps(sequence)
    assert len(data) < 2000 < entry["video"].nbytes
    read_sequences(tmp_path / "b.pkl")  # another file takes its place in memory
    check(pickle.loads(data), entry)


def test_a_file_is_read_once(tmp_path, monkeypatch):
    import vidtrack.benchmark.tapvid_files as module

    reads = []
    original = module.read_pickle
    monkeypatch.setattr(module, "read_pickle", lambda path: reads.append(path) or original(path))
    sequences = read_sequences(save(tmp_path / "a.pkl", {"x": make(1), "y": make(2)}))
    for sequence in sequences:
        assert len(list(sequence.images())) == FRAMES
    assert reads == [tmp_path / "a.pkl"]


def test_a_changed_file_is_read_again(tmp_path):
    path = save(tmp_path / "a.pkl", {"x": make(1)})
    read_sequences(path)
    save(path, {"x": make(2)})
    os.utime(path, ns=(1, 1))  # of the same size, perhaps within the same tick of the clock
    check(read_sequences(path)[0], make(2))


@pytest.mark.parametrize("form", [list, np.asarray])
def test_the_hash_is_of_everything(tmp_path, form):
    def hash_of(entry):
        if form is list:
            entry = {**entry, "video": jpegs(entry["video"])}
        return read_sequences(save(tmp_path / "a.pkl", [entry]))[0].sha256

    first = hash_of(make())
    assert hash_of(make()) == first
    for key in ("video", "points", "occluded"):
        entry = make()
        entry[key][1, 1] = entry[key][0, 0] if key != "occluded" else ~entry[key][1, 1]
        assert hash_of(entry) != first, key


def changed(**changes):
    entry = {**make(), **changes}
    return {key: value for key, value in entry.items() if value is not None}


def points(place, n=1, t=2):
    entry = make()
    entry["points"][n, t] = place
    return entry


BROKEN_JPEG = jpegs(make()["video"])
WRONG = {
    "no dict": (np.zeros(3), "ndarray"),
    "no video": (changed(video=None), "no video"),
    "no points": (changed(points=None), "no points"),
    "no occlusion": (changed(occluded=None), "no occluded"),
    "float video": (changed(video=np.zeros((FRAMES, *SIZE, 3))), "float64 array"),
    "text as video": (changed(video="bear.mp4"), "str"),
    "list of arrays": (changed(video=list(make()["video"])), "list"),
    "gray video": (changed(video=np.zeros((FRAMES, *SIZE), np.uint8)), r"shape \[4, 12, 16\]"),
    "four channels": (changed(video=np.zeros((FRAMES, *SIZE, 4), np.uint8)), r"\[T, H, W, 3\]"),
    "no frames": (changed(video=np.zeros((0, *SIZE, 3), np.uint8)), r"shape \[0"),
    "no pictures": (changed(video=[]), "without frames"),
    "no JPEG": (changed(video=[b"abc"] * FRAMES), "frame 0"),
    "a broken header": (changed(video=[*BROKEN_JPEG[:3], BROKEN_JPEG[3][:9]]), "frame 3"),
    "frames of two sizes": (changed(video=[*BROKEN_JPEG[:3], *jpegs(np.zeros((1, 9, 8, 3), "u1"))]), "8x9"),
    "a shorter video": (changed(video=make()["video"][:-1]), "3 frames, but points of 4"),
    "fewer pictures": (changed(video=BROKEN_JPEG[:2]), "2 frames, but points of 4"),
    "points of other frames": (changed(points=make()["points"][:, 1:]), "flags of occlusion"),
    "occlusion of other points": (changed(occluded=make()["occluded"][1:]), "flags of occlusion"),
    "swapped axes": (changed(points=make()["points"].swapaxes(0, 1)), r"\[4, 3, 2\] points"),
    "three coordinates": (changed(points=np.zeros((POINTS, FRAMES, 3))), r"must be \[N, T, 2\]"),
    "no point": (changed(points=np.zeros((0, FRAMES, 2)), occluded=np.zeros((0, FRAMES), bool)), "shape"),
    "points as text": (changed(points=np.zeros((POINTS, FRAMES, 2)).astype(str)), "no array of numbers"),
    "points as a list": (changed(points=[[0, 0]]), "no array of numbers"),
    "occlusion of halves": (changed(occluded=np.full((POINTS, FRAMES), 0.5)), "true and false"),
    "occlusion with an axis more": (changed(occluded=np.zeros((POINTS, FRAMES, 1), bool)), "true and false"),
    "pixels": (points((8.0, 0.5)), r"point 1 at \(8, 0.5\) in frame 2"),
    "far outside": (points((0.5, -0.6)), r"point 1 at \(0.5, -0.6\) in frame 2"),
    "a visible point nowhere": (points((np.nan, 0.5)), r"point 1 at \(nan, 0.5\) in frame 2"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_sequence_is_named(tmp_path, name):
    entry, message = WRONG[name]
    path = save(tmp_path / "set.pkl", {"good": make(), "bad": entry})
    with pytest.raises(InputError, match=message) as caught:
        read_sequences(path)
    assert str(caught.value).startswith(f"{path}, sequence bad ") and "\n" not in str(caught.value)


@pytest.mark.parametrize("form", ["pickle", "npz"])
def test_a_picture_that_breaks_off_is_named_when_it_is_reached(tmp_path, form):
    pictures = [*BROKEN_JPEG[:2], BROKEN_JPEG[2][:-90], BROKEN_JPEG[3]]
    entry = changed(video=np.array(pictures))
    path = tmp_path / "set.npz"
    if form == "pickle":
        save(path, {"set": entry})
    else:
        np.savez(path, **entry)
    (sequence,) = read_sequences(path)
    assert sequence.image(3).shape == (*SIZE, 3)
    with pytest.raises(InputError, match=r"sequence set has no readable JPEG picture as frame 2"):
        list(sequence.images())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "no sequence"),
        ([], "no sequence"),
        (np.zeros(3), "one ndarray"),
        ("text", "one str"),
        ({b"bear": 1}, "names a sequence"),
        ({"bear": print}, r"builtins\.print"),
    ],
)
def test_a_pickle_of_something_else(tmp_path, content, message):
    with pytest.raises(InputError, match=message) as caught:
        read_sequences(save(tmp_path / "set.pkl", content))
    assert str(caught.value).startswith(str(tmp_path / "set.pkl"))


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        read_sequences(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"no \.pkl"):
        read_sequences(tmp_path)
    (tmp_path / "a.pkl").touch()
    with pytest.raises(InputError, match=r"a\.pkl is empty"):
        read_sequences(tmp_path)
    whole = tmp_path / "whole.npz"
    np.savez(whole, **make())
    with pytest.raises(InputError, match="keep one kind"):
        read_sequences(tmp_path)
    cut = tmp_path / "cut.npz"
    cut.write_bytes(whole.read_bytes()[:-100])
    with pytest.raises(InputError, match=r"cut\.npz can't be read as npz"):
        read_sequences(cut)
    np.savez(whole, **{**make(), "video": np.array(BROKEN_JPEG, object)})  # a pickle inside
    with pytest.raises(InputError, match=r"whole\.npz can't be read as npz .*allow_pickle=False"):
        read_sequences(whole)


def test_a_missing_shard_is_noticed(tmp_path):
    for shard in (0, 2):
        save(tmp_path / f"{shard:04}_of_0003.pkl", [make(shard)])
    with pytest.raises(InputError, match=r"0001_of_0003\.pkl is missing"):
        read_sequences(tmp_path)
    # A shard on its own may be asked for.
    assert len(read_sequences(tmp_path / "0002_of_0003.pkl")) == 1


@pytest.mark.parametrize("names", [("bear", "bear"), ("bear", "Bear"), ("Bear", "bear"), ("a b", "a_b")])
def test_two_sequences_of_one_name(tmp_path, names):
    for split, name in enumerate(names):
        save(tmp_path / f"split{split}.pkl", {name: make()})
    with pytest.raises(InputError, match=r"split1\.pkl has a sequence named .*split0\.pkl"):
        read_sequences(tmp_path)
