"""Running a benchmark: the plan, the loop, resumption, the time that is left."""
