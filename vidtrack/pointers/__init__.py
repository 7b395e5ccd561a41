"""Pointers: the attention of each query cell over the cells of a memory of frames."""

from vidtrack.pointers.tiles import Pointers, read, topk

__all__ = ["Pointers", "read", "topk"]
