"""Labels: what users annotate on a frame and get back for every frame, and the files they come in."""

from vidtrack.labels.masks import Masks

__all__ = ["Masks"]
