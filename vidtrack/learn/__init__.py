"""Learning to point from raw, unlabelled video: frames, clips, objectives, training."""
