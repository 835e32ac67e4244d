"""The paper as pure functions on tensors: importance, schedule, pruning, sparsity; and one addition, a rising scale."""
