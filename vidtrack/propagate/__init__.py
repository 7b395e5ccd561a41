"""Carrying label maps from annotated frames through a video."""
