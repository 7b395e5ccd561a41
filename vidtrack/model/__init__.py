"""The video colorization model, its tracker files, and how a frame becomes an embedding."""
