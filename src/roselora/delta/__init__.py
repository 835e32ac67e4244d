"""One update of a model as a small file, applied to a live model and removed exactly."""
