"""What is written of each kind of label, and how it is read back to go on from it."""

from pathlib import Path
from typing import Any

from pretrain.errors import InputError
from vidtrack.job.outputs.base import About, Output
from vidtrack.job.outputs.boxes import BoxOutput
from vidtrack.job.outputs.keypoints import KeypointOutput
from vidtrack.job.outputs.maps import MapOutput
from vidtrack.job.outputs.masks import MaskOutput
from vidtrack.labels import Boxes, Keypoints, Maps, Masks

__all__ = ["About", "Output", "check_saves", "make_output"]

OUTPUTS: dict[type[Any], type[Output[Any]]] = {
    Masks: MaskOutput,
    Keypoints: KeypointOutput,
    Boxes: BoxOutput,
    Maps: MapOutput,
}


def make_output(folder: Path, about: About) -> Output[Any]:
    """The output of the kind of label that is annotated; nothing is written yet."""
    return OUTPUTS[about.kind](folder, about)


def check_saves(kind: type[Any], saves: frozenset[str]) -> None:
    """Raises InputError for a name of `--save` that is unknown, or goes with another kind of label."""
    possible = {name: made for made, output in OUTPUTS.items() for name in output.saves}
    for name in sorted(saves):
        if name not in possible:
            raise InputError(f"--save {name} is unknown: choose among {', '.join(sorted(possible))}.")
        if possible[name] is not kind:
            raise InputError(
                f"--save {name} goes with {possible[name].__name__.lower()}, not with "
                f"{kind.__name__.lower()}: leave it out."
            )
    OUTPUTS[kind].check(saves)
