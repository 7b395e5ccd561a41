"""The objectives of video training, one file each: their settings, their loss, and why it works."""

from __future__ import annotations

from vidtrack.learn.objectives.anchors import AnchorAssignment
from vidtrack.learn.objectives.base import Name, Objective
from vidtrack.learn.objectives.cycle import CycleWalk
from vidtrack.learn.objectives.lab import LabReconstruction
from vidtrack.learn.objectives.quantized import QuantizedColors

OBJECTIVES: dict[Name, type[Objective]] = {
    "anchors": AnchorAssignment,
    "quantized": QuantizedColors,
    "lab": LabReconstruction,
    "cycle": CycleWalk,
}
