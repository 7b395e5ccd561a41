"""Judging a backbone downstream: neighbours, classifiers, few labels, fine-tuning, pixels."""

from pretrain.probe.pixels import PixelResult, pixel_probe
from pretrain.probe.run import ProbeResult, Score, probe
from pretrain.probe.settings import ProbeSettings

__all__ = ["PixelResult", "ProbeResult", "ProbeSettings", "Score", "pixel_probe", "probe"]
