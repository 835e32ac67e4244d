"""Fine-tuning from a config file: a thin layer over transformers' Trainer and trl."""
