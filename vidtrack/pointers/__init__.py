"""Pointers: the attention of each query cell over the cells of a memory of frames."""

from vidtrack.pointers.bijective import CANDIDATES, bijective
from vidtrack.pointers.keys import Keys, as_keys, rearranged
from vidtrack.pointers.tiles import Pointers, read, topk

__all__ = ["CANDIDATES", "Keys", "Pointers", "as_keys", "bijective", "read", "rearranged", "topk"]
