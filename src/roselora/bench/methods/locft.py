"""LocFT-BF: fine-tuning one late MLP output matrix, breadth first over all edits (arXiv 2509.22072).

It trains in epochs over all requests, in shuffled batches, each target ending with the end-of-sequence token. Breadth
first means that every epoch sees every request; a depth-first sequence trains each request to its end and forgets the
ones before.
"""

from roselora.bench.methods.edit_method import Method
from roselora.bench.methods.matrix_tuning import MatrixConfig, tune_matrix

# Layer 22 of 32, batches of 100, 25 epochs, all of which are trained, and learning rate 5e-4 are the paper's.
DEFAULTS = MatrixConfig(depth=22 / 31, batch_size=100, stop_loss=0.0)

METHOD = Method("locft-bf", tune_matrix, DEFAULTS, "arXiv 2509.22072", requests_per_call=None)
