"""Pointers: the attention of each query cell over the cells of a memory of frames."""

from vidtrack.pointers.keys import Keys, as_keys
from vidtrack.pointers.tiles import Pointers, read, topk

__all__ = ["Keys", "Pointers", "as_keys", "read", "topk"]
