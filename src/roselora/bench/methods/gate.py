"""Gated neuron edits, ours: for each request some neurons of one late MLP."""

from roselora.bench.methods.edit_method import Method
from roselora.bench.methods.neuron_edits import edit_neurons, measure_reference
from roselora.editing.methods.gate.gate_settings import GateSettings

METHOD = Method(
    "gate",
    edit_neurons,
    GateSettings(),
    "ours, `editing/methods/gate`",
    requests_per_call=None,
    read_text=measure_reference,
)
