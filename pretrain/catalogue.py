"""Any backbone by what a user types: a name, a backbone file, the folder of a run, a foreign checkpoint."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal

import torch

from pretrain.backbones import ARCHES, ResNet, build
from pretrain.checkpoint import load_exactly
from pretrain.config import Config
from pretrain.errors import InputError
from pretrain.folder import file_of_run
from pretrain.inputs import Input
from pretrain.pair import Pair
from pretrain.timm_networks import require_network, split_path
from pretrain.vit import BARE, SIZES, TimmFeatures, ViT
from pretrain.weights import read_weights

SMALL = 64  # pixels: up to this size of images the small stem and small patches are chosen
RANDOM = re.compile(r"(.*?)(-small)?(?:#([0-9]{1,18}))?\Z", re.DOTALL)
FILE = "backbone.safetensors"  # in the folder of a run
OF_TRAIN = "tracker.safetensors"  # in that of a run of `vidtrack train`
SNAPSHOTS = "snapshots"  # below it, backbone files of earlier steps


class Backbone(Config):
    """Which backbone a run learns.

    `arch` is resnet18, resnet34, resnet50, vit_tiny, vit_small, vit_base, or the path of a backbone file or
    run to go on from. `stem` (of ResNets) and `patch` (of ViTs, in pixels) are chosen by the size of the
    images where they are "auto" and null: the small stem and patches of 4 up to 64 pixels, else the standard
    stem and patches of 16. `share` is the share of the standard number of channels of a ResNet: with 0.5 it
    is what `vidtrack train` makes the default tracker of.
    """

    arch: str = "resnet18"
    stem: Literal["auto", "standard", "small"] = "auto"
    patch: int | None = None
    share: float = 1.0


def make_backbone(settings: Backbone, size: int, input: Input = "rgb", pair: bool = False) -> Any:
    """A backbone to train.

    Args:
        settings: see `Backbone`.
        size: side of the images in pixels.
        input: what it sees of an RGB image.
        pair: two networks of half the width for lightness and colours instead of one, see `Pair`.

    Raises:
        InputError: no such backbone, or one that doesn't take this input or share of its channels.
    """
    small = size <= SMALL
    stem: Literal["standard", "small"] = "small" if small else "standard"
    if settings.stem != "auto":
        stem = settings.stem
    if settings.arch in ARCHES:
        if pair:
            return Pair(settings.arch, stem, settings.share / 2)
        return ResNet(settings.arch, input=input, stem_kind=stem, share=settings.share)
    if settings.share != 1:
        raise InputError(
            f"backbone.share={settings.share:g} is for {', '.join(ARCHES)} alone: {settings.arch} has its "
            "channels."
        )
    if settings.arch in SIZES:
        if pair:
            raise InputError("two half-networks are made of ResNets only: set backbone.arch=resnet18.")
        return ViT(settings.arch, settings.patch or (4 if small else 16), size, input)
    backbone = build_any(settings.arch)
    if isinstance(backbone, TimmFeatures):
        raise InputError(
            f"{settings.arch} can be probed, and learn to track (vidtrack train --backbone), but not by a "
            f"pretext task: set backbone.arch to {', '.join([*ARCHES, *SIZES])} or a backbone file."
        )
    if isinstance(backbone, Pair) != pair or (not pair and getattr(backbone, "input", "rgb") != input):
        wanted = "two half-networks" if pair else f"input {input}"
        raise InputError(f"{settings.arch} doesn't fit: this method learns a backbone with {wanted}.")
    return backbone


def build_any(spec: str) -> Any:
    """The backbone that a user names.

    Args:
        spec: a backbone file, the folder of a run that holds one, a foreign checkpoint of a ResNet, a name
            such as resnet18 or `random:NAME` (random weights, the same each time; `random:NAME#2` are others,
            `random:resnet18-small` has the small stem, `random:vit_tiny_patch4_32` patches of 4),
            `timm:NAME` or `timm:NAME@PATH` (a checkpoint of such a network).

    Returns:
        A module that takes RGB images `[N, 3, H, W]` in 0..1 and returns a dict of feature maps, with the
        attributes `channels` and `strides`.

    Raises:
        InputError: there is no such thing, or it is no backbone.
    """
    kind, _, name = spec.partition(":")
    if kind == "timm" and name:
        network, path = split_path(spec, name)
        require_network(spec, network)
        return TimmFeatures(network, path=path)
    if spec in (*ARCHES, *SIZES) and Path(spec).exists():
        raise InputError(f"{spec} is a network and a file or folder here: give random:{spec} or ./{spec}.")
    if (kind == "random" and name) or spec in ARCHES or spec in SIZES:
        return _random(spec, name or spec)
    path = file_of(Path(spec))
    state, meta = read_weights(path)
    backbone: Any
    try:
        if meta.get("pair"):
            backbone = Pair(meta["arch"], meta["stem"], meta["share"])
        elif meta.get("arch") in SIZES:
            backbone = ViT(meta["arch"], meta["patch"], meta["size"], meta["input"])
        else:
            return build(str(path))
    except KeyError as error:
        raise InputError(f"{path} is damaged: it doesn't say the {error.args[0]} of its network.") from error
    load_exactly(backbone, state, path)
    return backbone


def file_of(path: Path) -> Path:
    """The backbone file that a user names: itself, or by the folder of the run that holds it.

    Raises:
        InputError: there is none.
    """
    path = file_of_run(path, (FILE,), (f"{SNAPSHOTS}/*.safetensors",), (OF_TRAIN,))
    if not path.is_file():
        raise InputError(
            f"there is no backbone {str(path)!r}: give a file, the folder of a run, random:resnet18 or "
            "timm:NAME."
        )
    return path


def _random(spec: str, name: str) -> Any:
    found = RANDOM.match(name)
    assert found  # the pattern fits everything
    name, small, seed = found.groups()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(seed or 0))
        if name in ARCHES:
            return ResNet(name, stem_kind="small" if small else "standard")
        if vit := BARE.match(name):
            return ViT(vit[1], int(vit[2] or 16), int(vit[3] or 224))
        require_network(spec, name)
        return TimmFeatures(name, pretrained=False)
