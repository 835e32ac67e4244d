"""One update as a small file, applied to a live model and taken back exactly."""
