"""Pointers: the attention of each query cell over the cells of a memory of frames."""

from vidtrack.pointers.tiles import Pointers, as_keys, read, topk

__all__ = ["Pointers", "as_keys", "read", "topk"]
