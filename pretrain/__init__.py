"""Image-level self-supervision: backbones, configs and the training engine; knows nothing of video."""
