"""The paper's four fine-tuning benchmarks, forgetting and data size, on one small shape."""
