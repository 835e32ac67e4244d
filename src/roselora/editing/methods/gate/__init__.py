"""Gated neuron edits (``--method gate``, the default): a fact is written into a few neurons of one MLP.

Let z (d,) be what the neurons of an MLP read at one token. In a gated linear unit, neuron j adds

    act(g_j·z) (u_j·z) v_j

to the MLP's output, where g_j and u_j are its rows of the two layers that read, and v_j (d,) is its column of the layer
that writes, its *value*. (In a plain MLP there is no u_j.) An edit replaces one neuron for each token of the answer
that the model does not predict already. In the order in which the files are needed:

1. Layer choice (`layer_choice.py`): the last MLP, and those below it when there are many edits. The neurons that are
   replaced add least to its output in text that the model samples itself (`reference_statistics.py`) and at the
   negatives.
2. Texts (`training_texts.py`): the prompts in all forms and behind several openings, and generated rephrasings of them
   (`generated_rephrasings.py`); and negatives, at which the model must not change: the same subject in other relations
   (`negatives.py`, `relation_prompts.py`), the prompt with another subject (`other_subjects.py`), the model's own
   answers to all of these, and the user's keep-prompts.
3. Gates (`ridge_gate.py`, `gate_fitting.py`): w is the ridge regression of 1 at the prompt, 0 at negatives and -2 in
   ordinary text; the neuron is active where w·z exceeds a threshold. Where other edits are asked for, it must be
   inactive too (`other_edits.py`).
4. Values (`value_training.py`): the only part that is trained, by Adam, until the answer leads by a margin.
5. The edit (`gate_edit.py`): the new rows and columns minus the old ones, a delta of rank one a neuron and matrix.

`joint_edits.py` makes many edits together, from the lowest MLP to the highest. The construction is our own. RoseLoRA's
edits (`methods/rose`) go through the same steps, but with sparse rows and columns, added to those of the neurons. That
MLP neurons act as keys and values: Geva et al., 2021, arXiv 2012.14913; that a key is best read against the second
moments of ordinary keys: Meng et al., 2022, arXiv 2202.05262, Eq. 2.
"""
