"""Labels: what users annotate on a frame and get back for every frame, and the files they come in."""

from vidtrack.labels.boxes import Boxes
from vidtrack.labels.keypoints import Keypoints
from vidtrack.labels.maps import Maps
from vidtrack.labels.masks import Masks

__all__ = ["Boxes", "Keypoints", "Maps", "Masks"]
