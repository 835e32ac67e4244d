"""RoseLoRA: for each request one sparse low-rank delta."""

from roselora.bench.methods.edit_method import Applied, EditCall, Method
from roselora.bench.methods.neuron_edits import edit_neurons, measure_reference
from roselora.bench.methods.weight_changes import Deltas, undone_on_error
from roselora.editing.methods.gate.layer_choice import edits_neurons
from roselora.editing.methods.rose.factor_training import train_factors
from roselora.editing.methods.rose.rose_settings import EditSettings
from roselora.editing.methods.train_edit import factors_delta
from roselora.models.inference import counted

PUBLISHED_SETTINGS = EditSettings(
    rank=8,
    alpha=32,
    density=0.05,
    warmup=3,
    ramp=17,
    max_steps=25,
    learning_rate=5e-4,
    dropout=0.1,
    clamp=3e-3,
    keep_weight=0.0,
    target_modules=("q_proj", "v_proj"),
)
"""The published code's settings for editing LLaMA-2-7B-chat."""


def rose(call: EditCall[EditSettings]) -> Applied:
    """Edit as the editor does, with the paper's factors for the layers of one MLP, or of named modules.

    (Wang et al., 2024, "RoseLoRA", arXiv 2406.10777, Eq. 3-10.)

    Raises:
        What `edit_neurons` and `factors` raise.
    """
    return edit_neurons(call) if edits_neurons(call.model, call.config) else factors(call)


def factors(call: EditCall[EditSettings]) -> Applied:
    """Train factors of named modules for each request on the model as it is by then, and apply them in any case.

    It is the editor's own training, by which the answers to the prompts of all previous requests stay. Unlike the
    editor, and like every baseline, it applies what was trained even if the target is not reached: the published
    settings often fail, and their effect elsewhere is to be measured all the same.

    Raises:
        ConfigError: the model cannot be adapted with these settings.
        NonFiniteError: a delta, or its sum with a weight, is not finite; the model is as it was.
    """
    model, tokenizer, config = call.model, call.tokenizer, call.config
    previous = [prompt for applied in call.history for request in applied.requests for prompt in request.prompts]
    steps = 0
    with undone_on_error(Deltas(model)) as deltas:
        for request in counted(call.requests, call.on_progress):
            pairs, stopped = train_factors(model, tokenizer, request, config, previous)
            deltas.apply(factors_delta(model, deltas.overlay, pairs))
            previous += request.prompts
            steps += stopped.steps
    return Applied(tuple(call.requests), deltas.restore, deltas.entries(), steps)


METHOD = Method(
    "rose",
    rose,
    EditSettings(),
    "Wang et al., 2024, arXiv 2406.10777; our defaults, unless --settings says otherwise",
    requests_per_call=None,
    read_text=measure_reference,
)

PUBLISHED = Method(
    "rose-published",
    rose,
    PUBLISHED_SETTINGS,
    "Wang et al., 2024, arXiv 2406.10777; the published code's settings",
)
