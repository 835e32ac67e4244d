"""RoseLoRA's edits (``--method rose``): what they do otherwise than gated neuron edits, whose steps they share.

1. Rows of A that read the MLP's input keep the most important entries of a gate's direction (`sparse_rows.py`).
2. They are added to the rows of neurons, which training takes into account (`added_rows.py`).
3. Columns of B, which say what the neurons write, are pruned at every step of their training (`row_pruning.py`).

`factor_training.py` is the paper's own procedure, for modules that the settings name.
"""
