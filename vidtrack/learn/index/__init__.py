"""The index of raw footage: which spans of which videos are worth learning from."""
