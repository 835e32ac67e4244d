"""What the words of an evaluation mean, measured on what the model says by itself."""
