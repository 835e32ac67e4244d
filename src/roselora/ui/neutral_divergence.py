"""How far the edited model's predictions are from those before an edit, on neutral text."""

import torch
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from roselora.editing.methods.neutral_texts import NEUTRAL_TEXTS
from roselora.editing.methods.rose.factor_training import NEUTRAL_ROWS
from roselora.models.inference import default_torch_modes, eval_mode
from roselora.models.padding import padded_inputs
from roselora.models.tokenization import encode

ROWS = 8
"""How many texts are read at a time."""


@default_torch_modes()
@torch.no_grad()
def neutral_predictions(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> Tensor:
    """The log-probabilities of the first token after each neutral text, (texts, vocabulary) fp32 on the CPU.

    Left out are the texts that RoseLoRA trains on.
    """
    rows = [tuple(encode(tokenizer, text)) for text in NEUTRAL_TEXTS[NEUTRAL_ROWS:]]
    found = []
    with eval_mode(model):
        for start in range(0, len(rows), ROWS):
            batch = rows[start : start + ROWS]
            inputs = {name: tensor.to(model.device) for name, tensor in padded_inputs(batch).items()}
            logits = model(**inputs).logits
            ends = torch.tensor([len(row) - 1 for row in batch], device=logits.device)
            last = logits[torch.arange(len(batch), device=logits.device), ends]
            found.append(functional.log_softmax(last.float(), dim=-1).cpu())
    return torch.cat(found)


def divergence(before: Tensor, after: Tensor) -> float:
    """The mean KL divergence of predictions from those before, in nats."""
    # A token that a model rules out has the log-probability of minus infinity, and no difference of two of these.
    floor = torch.finfo(before.dtype).min / 4
    return float(functional.kl_div(after.clamp(floor), before.clamp(floor), reduction="batchmean", log_target=True))
