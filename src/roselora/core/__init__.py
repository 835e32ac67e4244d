"""The paper as pure functions on tensors: importance, schedule, pruning, sparsity; no model, no I/O."""
