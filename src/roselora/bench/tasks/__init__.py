"""The benchmarks: one file each, from records to prompts, answers and scores."""
