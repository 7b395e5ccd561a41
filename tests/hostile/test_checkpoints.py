"""Checkpoints are data: whatever a file of weights holds, nothing of it runs, and one sentence says no."""

import json
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from pretrain.backbones import ResNet, save_backbone
from pretrain.catalogue import build_any
from pretrain.checkpoint import read_checkpoint
from pretrain.errors import InputError
from pretrain.folder import CHECKPOINT, steps_done
from vidtrack.model.colorizer import Model, VideoColorizer
from vidtrack.model.tracker_file import load_tracker, save_tracker
from vidtrack.model.trunk import make_trunk
from vidtrack.tracker import load

TIMM = "resnet10t"
SUFFIXES = (".safetensors", ".pth", ".pt", ".ckpt", ".bin", ".npz", ".npy", ".pkl")


def of_timm(path: Path) -> Any:
    pytest.importorskip("timm")
    return make_trunk(f"timm:{TIMM}@{path}")


def of_run(path: Path) -> Any:
    """The checkpoint of a run that is to go on."""
    return steps_done(path.parent)


# What a user types -> what reads it: `--tracker`, `--backbone` of train, that of probe and export, `timm:@`.
READERS: dict[str, Callable[[Path], Any]] = {
    "tracker": lambda path: load(path, device="cpu"),
    "tracker file": load_tracker,
    "backbone of train": lambda path: make_trunk(str(path)),
    "backbone of probe": lambda path: build_any(str(path)),
    "backbone of timm": of_timm,
}
OWN = [name for name in READERS if name != "backbone of timm"]


class Evil:
    """What makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


@pytest.fixture(scope="module")
def tracker(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A good tracker file, small: half of the channels."""
    return good(tmp_path_factory.mktemp("good"))


def good(folder: Path) -> bytes:
    torch.manual_seed(0)
    save_backbone(ResNet("resnet18", share=1 / 16), folder / "b.safetensors")
    save_tracker(
        folder / "t.safetensors",
        VideoColorizer(Model(backbone=str(folder / "b.safetensors"), head=(8, 4))),
        {},
        {},
    )
    return (folder / "t.safetensors").read_bytes()


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("good") / "b.safetensors"
    save_backbone(ResNet("resnet18", share=1 / 16), path)
    return path.read_bytes()


def parts(content: bytes) -> tuple[dict[str, Any], bytes]:
    """Header and numbers of safetensors."""
    (length,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def joined(header: dict[str, Any], numbers: bytes) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + numbers


def changed(content: bytes, **values: Any) -> bytes:
    """A tracker file that says other things of itself; None takes a key away."""
    header, numbers = parts(content)
    record = json.loads(header["__metadata__"]["vidtrack"])
    for key, value in values.items():
        *above, last = key.split("__")
        inner = record
        for name in above:
            inner = inner[name]
        if value is None:
            del inner[last]
        else:
            inner[last] = value
    header["__metadata__"]["vidtrack"] = json.dumps(record)
    return joined(header, numbers)


def refused(read: Callable[[Path], Any], path: Path) -> str:
    """The sentence that says no; it names the file."""
    with pytest.raises(InputError) as caught:
        read(path)
    text = str(caught.value)
    assert path.name in text and "\n" not in text and len(text) < 600, text
    return text


def evil_files(target: Path) -> dict[str, bytes]:
    """A pickle that makes `target`, in every wrapping that a reader knows."""
    evil, folder = Evil(target), target.parent
    plain = {f"protocol {number}": pickle.dumps(evil, number) for number in range(6)}
    torch.save({"state_dict": evil}, folder / "zip")
    torch.save({"state_dict": evil}, folder / "old", _use_new_zipfile_serialization=False)
    np.save(folder / "a.npy", np.array([evil], object), allow_pickle=True)
    np.savez(folder / "a.npz", np.array([evil], object))
    names = ("zip", "old", "a.npy", "a.npz")
    return plain | {name: (folder / name).read_bytes() for name in names}


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("reader", [*READERS, "run"])
def test_a_pickle_that_makes_a_folder_makes_none(tmp_path: Path, reader: str, suffix: str) -> None:
    (tmp_path / "made").mkdir()
    target = tmp_path / "made" / "by the pickle"
    for content in evil_files(target).values():
        path = tmp_path / (CHECKPOINT if reader == "run" else f"weights{suffix}")
        path.write_bytes(content)
        refused(of_run if reader == "run" else READERS[reader], path)
        assert not target.exists()


def test_the_pickle_of_this_test_would_run(tmp_path: Path) -> None:
    pickle.loads(evil_files(tmp_path / "made")["protocol 4"])
    assert (tmp_path / "made").is_dir()


HEADERS: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda c: b"",
    "seven bytes": lambda c: c[:7],
    "header of a terabyte": lambda c: struct.pack("<Q", 2**40) + c[8:],
    "header beyond the end": lambda c: struct.pack("<Q", len(c)) + c[8:],
    "header of nothing": lambda c: struct.pack("<Q", 0) + c[8:],
    "no JSON": lambda c: struct.pack("<Q", 64) + b"x" * 64,
    "not UTF-8": lambda c: struct.pack("<Q", 8) + b'{"\xff": 1',
    "a list": lambda c: struct.pack("<Q", 8) + b"[1,2,3] ",
    "deep": lambda c: struct.pack("<Q", 50_000) + b"[" * 50_000,
    "a tensor beyond the end": lambda c: moved(c, 1 << 40),
    "a tensor that overlaps": lambda c: moved(c, -4),
    "no numbers": lambda c: joined(parts(c)[0], b""),
    "other type": lambda c: c.replace(b'"F32"', b'"F99"').replace(b'"BF16"', b'"XF16"'),
    "text instead of metadata": lambda c: joined({**parts(c)[0], "__metadata__": "x"}, parts(c)[1]),
    "numbers in metadata": lambda c: joined({**parts(c)[0], "__metadata__": {"vidtrack": 3}}, parts(c)[1]),
}


def moved(content: bytes, by: int) -> bytes:
    header, numbers = parts(content)
    key = next(name for name in header if name != "__metadata__")
    header[key]["data_offsets"][1] += by
    return joined(header, numbers)


@pytest.mark.parametrize("damage", HEADERS)
@pytest.mark.parametrize("reader", READERS)
def test_damaged_headers(tmp_path: Path, tracker: bytes, backbone: bytes, reader: str, damage: str) -> None:
    path = tmp_path / "weights.safetensors"
    path.write_bytes(HEADERS[damage](tracker if "tracker" in reader else backbone))
    refused(READERS[reader], path)


@pytest.mark.parametrize("reader", OWN)
def test_files_that_break_off(tmp_path: Path, tracker: bytes, backbone: bytes, reader: str) -> None:
    content = tracker if "tracker" in reader else backbone
    path = tmp_path / "weights.safetensors"
    for place in {*range(0, 64, 7), *np.linspace(64, len(content) - 1, 20).astype(int)}:
        path.write_bytes(content[:place])
        refused(READERS[reader], path)


@pytest.mark.parametrize("new", [True, False])
def test_checkpoints_of_torch_that_break_off(tmp_path: Path, new: bool) -> None:
    path, run = tmp_path / "weights.pth", tmp_path / CHECKPOINT
    torch.save(
        {"state_dict": ResNet("resnet18", share=1 / 16).state_dict(), "global_step": 3},
        path,
        _use_new_zipfile_serialization=new,
    )
    content = path.read_bytes()
    for place in np.linspace(0, len(content) - 1, 12).astype(int):
        path.write_bytes(content[:place])
        run.write_bytes(content[:place])
        refused(READERS["backbone of train"], path)
        refused(of_run, run)


@pytest.mark.parametrize("reader", READERS)
def test_what_is_no_file(tmp_path: Path, reader: str) -> None:
    os.mkfifo(tmp_path / "pipe.safetensors")
    for name in ("pipe.safetensors", "missing.safetensors", "a\nb\0c"):
        with pytest.raises(InputError):
            READERS[reader](tmp_path / name)
    with pytest.raises(InputError):
        READERS[reader](tmp_path)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("reader", READERS)
def test_numbers_that_are_not_finite(
    tmp_path: Path, tracker: bytes, backbone: bytes, reader: str, number: float
) -> None:
    path = tmp_path / "weights.safetensors"
    if reader == "backbone of timm":
        timm = pytest.importorskip("timm")
        state = timm.create_model(TIMM, num_classes=0).state_dict()
        state["layer1.0.conv1.weight"][0, 0, 0, 0] = number
        save_file(state, path)
    else:
        header, numbers = parts(tracker if "tracker" in reader else backbone)
        kind = next(v["dtype"] for k, v in header.items() if k.endswith("conv1.weight"))
        raw = torch.tensor([number], dtype=torch.bfloat16 if kind == "BF16" else torch.float32)
        begin, _ = next(v["data_offsets"] for k, v in header.items() if k.endswith("layer1.0.conv1.weight"))
        data = raw.view(torch.uint8).numpy().tobytes()
        path.write_bytes(joined(header, numbers[:begin] + data + numbers[begin + len(data) :]))
    assert "not finite" in refused(READERS[reader], path)


def test_numbers_that_float32_can_not_hold_and_variances_below_zero(tmp_path: Path) -> None:
    state = ResNet("resnet18", share=1 / 16).state_dict()
    large = {**state, "conv1.weight": state["conv1.weight"].double() * 1e300}
    below = {**state, "bn1.running_var": -state["bn1.running_var"]}
    for content, word in ((large, "not finite"), (below, "variances below 0")):
        path = tmp_path / "weights.safetensors"
        description = json.dumps(ResNet("resnet18", share=1 / 16).description())
        save_file(content, path, metadata={"backbone": description})
        assert word in refused(READERS["backbone of probe"], path)


SAYS: dict[str, dict[str, Any]] = {
    "format text": {"format": "x"},
    "format newer": {"format": 99},
    "format missing": {"format": None},
    "format huge": {"format": 10**400},
    "model list": {"model": []},
    "model unknown key": {"model__wheels": 4},
    "head of terabytes": {"model__head": [10**9, 10**9]},
    "head negative": {"model__head": [-1, 4]},
    "head of another size": {"model__head": [16, 4]},
    "embedding unknown": {"model__embedding": "tail"},
    "weight of a companion": {"model__companion": "resnet18", "model__companion_weight": 1e400},
    "companion without description": {"model__companion": "resnet18"},
    "trunks list": {"trunks": ["backbone"]},
    "trunks text": {"trunks": "backbone"},
    "trunks gone, file named": {"trunks": None, "model__backbone": "/etc/passwd"},
    "trunks gone, timm named": {"trunks": None, "model__backbone": "timm:vit_tiny_patch16_224"},
    "trunks unknown": {"trunks__wheel": {}},
    "arch unknown": {"trunks__backbone__arch": "resnet9000"},
    "arch number": {"trunks__backbone__arch": 18},
    "arch missing": {"trunks__backbone__arch": None},
    "another arch": {"trunks__backbone__arch": "resnet50"},
    "transformer": {"trunks__backbone__arch": "vit_tiny"},
    "transformer of terabytes": {
        "trunks__backbone__arch": "vit_base",
        "trunks__backbone__patch": 1,
        "trunks__backbone__size": 10**7,
    },
    "share of terabytes": {"trunks__backbone__share": 1e9},
    "share nan": {"trunks__backbone__share": float("nan")},
    "share text": {"trunks__backbone__share": "much"},
    "share zero": {"trunks__backbone__share": 0},
    "input unknown": {"trunks__backbone__input": "cmyk"},
    "mean of two": {"trunks__backbone__mean": [0.5, 0.5]},
    "mean text": {"trunks__backbone__mean": "0.5"},
    "std zero": {"trunks__backbone__std": [0.0, 0.0, 0.0]},
    "timm path": {"trunks__backbone": {"timm": "../../etc/passwd"}},
    "timm of the hub": {"trunks__backbone": {"timm": "hf-hub:somebody/something"}},
    "pair": {"trunks__backbone__pair": True},
    "propagation list": {"propagation": []},
    "propagation gone": {"propagation": None},
    "training text": {"training": "yes"},
}


@pytest.mark.parametrize("says", SAYS)
def test_what_a_tracker_says_of_itself(tmp_path: Path, tracker: bytes, says: str) -> None:
    path = tmp_path / "t.safetensors"
    path.write_bytes(changed(tracker))
    load_tracker(path)
    path.write_bytes(changed(tracker, **SAYS[says]))
    refused(load_tracker, path)
    refused(READERS["tracker"], path)


@pytest.mark.parametrize(
    "settings",
    [
        {"size": 10**12},
        {"size": "x"},
        {"radius": -1},
        {"unknown": 1},
        {"context": []},
        {"temperature": "nan"},
    ],
)
def test_settings_of_a_tracker(tmp_path: Path, tracker: bytes, settings: dict[str, Any]) -> None:
    path = tmp_path / "t.safetensors"
    path.write_bytes(changed(tracker, propagation=settings))
    with pytest.raises(InputError):
        load(path, device="cpu")


@pytest.mark.parametrize(
    "text", ["", "3", "[]", "null", "{", '{"format": 1}', "[" * 100_000, '{"a":' * 50_000, "9" * 9000]
)
@pytest.mark.parametrize("key", ["vidtrack", "backbone"])
def test_metadata_that_are_no_record(tmp_path: Path, tracker: bytes, key: str, text: str) -> None:
    header, numbers = parts(tracker)
    header["__metadata__"] = {key: text}
    path = tmp_path / "t.safetensors"
    path.write_bytes(joined(header, numbers))
    for reader in ("tracker", "tracker file") if key == "vidtrack" else OWN:
        refused(READERS[reader], path)


def test_weights_of_another_shape_or_network(tmp_path: Path, tracker: bytes) -> None:
    header, numbers = parts(tracker)
    key = next(name for name in header if name.endswith("conv1.weight"))
    path = tmp_path / "t.safetensors"
    for change in (
        {key: {**header[key], "shape": header[key]["shape"][::-1]}},
        {"renamed": header[key], key: None},
        {key: {**header[key], "shape": [int(np.prod(header[key]["shape"]))]}},
    ):
        other = {name: value for name, value in {**header, **change}.items() if value is not None}
        path.write_bytes(joined(other, numbers))
        assert "damaged" in refused(load_tracker, path)


def test_tensors_that_claim_more_than_their_file_are_left_out(tmp_path: Path) -> None:
    """A pickle may spread one number over as many places as it likes."""
    large = torch.zeros(1).expand(10**6, 10**6)
    state = {
        "layer1.0.conv1.weight": large,
        "conv1.weight": torch.zeros(2).to_sparse(),
        "bn1.bias": torch.ones(2),
    }
    torch.save(state, tmp_path / "w.pth")
    assert list(read_checkpoint(tmp_path / "w.pth")[0]) == ["bn1.bias"]
    refused(READERS["backbone of probe"], tmp_path / "w.pth")


def test_a_checkpoint_that_grows_when_it_is_unpacked(tmp_path: Path) -> None:
    torch.save({"conv1.weight": torch.zeros(10**5)}, tmp_path / "w.pth")
    assert read_checkpoint(tmp_path / "w.pth")[0]
    with (
        zipfile.ZipFile(tmp_path / "w.pth") as old,
        zipfile.ZipFile(tmp_path / "bomb.pth", "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for name in old.namelist():
            new.writestr(name, old.read(name))
    assert "compressed" in refused(READERS["backbone of probe"], tmp_path / "bomb.pth")


def test_what_is_in_a_checkpoint_beside_tensors(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    for value in (
        None,
        3,
        [],
        "text",
        {},
        {1: 2},
        {"state_dict": []},
        {"state_dict": {"a": 1}},
        torch.zeros(3),
    ):
        torch.save(value, path)
        refused(READERS["backbone of probe"], path)
