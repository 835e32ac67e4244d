"""FT-M: fine-tuning one matrix on the target's tokens alone.

It minimizes the cross-entropy of the target's tokens, with the prompt masked, over FT-L's matrix without its bound.
(Zhang et al., 2024, "A Comprehensive Study of Knowledge Editing for Large Language Models", arXiv 2401.01286.)
"""

from roselora.bench.methods.edit_method import Method
from roselora.bench.methods.matrix_tuning import MatrixConfig, tune_matrix

# Layer 21 of 32, 25 steps and learning rate 5e-4 are EasyEdit's for LLaMA-2-7B.
METHOD = Method("ft-m", tune_matrix, MatrixConfig(), "Zhang et al., 2024, arXiv 2401.01286")
