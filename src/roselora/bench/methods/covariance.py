"""The uncentred covariance of the inputs of MLP output layers over a text, which edits in closed form preserve.

An associative memory W maps keys to values. How much a change of W disturbs the keys that a model meets in ordinary
text is measured by C = E[k kᵀ] (Meng et al. 2022, arXiv 2202.05262, section 3.1), estimated here in one pass over a
text that the user gives.
"""

import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from roselora.errors import ConfigError
from roselora.float64 import double
from roselora.models.activation_hooks import activations
from roselora.models.fingerprint import fingerprint
from roselora.models.inference import Progress, frozen
from roselora.models.mlp_neurons import weight_matrix
from roselora.models.tensor_cache import cache_file, load_cached, save_cached
from roselora.user_files import read_text

log = logging.getLogger(__name__)

WINDOW = 256
"""Tokens that are read together; each attends to those before it in its window."""

WINDOWS = 8
"""Windows in one forward pass."""

ENOUGH = 10
"""Tokens per dimension of the key below which the estimate is poor, and a warning is logged."""

MATRIX = "matrix"
"""The name of the one tensor of a cache file."""


def covariance(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    modules: Sequence[str],
    text: Path,
    *,
    tokens: int,
    cache: Path | None,
    on_progress: Progress | None = None,
) -> dict[str, Tensor]:
    """C = Σ k kᵀ / n over the first ``tokens`` tokens of a text file, by module: (d, d) fp32 on the CPU.

    k (d,) is the module's input at one token. The text is cut into windows without padding, so every token counts
    once. A ``cache`` folder stores each module's C under the hash of the model's weights, the text, the module's name,
    ``tokens``, the device and the versions of the libraries that compute it.

    Raises:
        ConfigError: the text is missing, not UTF-8, or has no tokens; or ``tokens`` is below 1.
        ModelError: the cache folder cannot be written.
    """
    if tokens < 1:
        raise ConfigError(f"The covariance needs at least one token, not {tokens}.")
    content = read_text(text)
    files: dict[str, Path] = {}
    if cache is not None:
        digest = hashlib.sha256(content.encode()).hexdigest()
        about = {"model": fingerprint(model), "text": digest, "tokens": tokens, "window": WINDOW}
        files = {name: cache_file(cache, "covariance", about | {"module": name}, model.device) for name in modules}
    found = {}
    for name, file in files.items():
        width = weight_matrix(model.get_submodule(name)).shape[1]
        if (cached := load_cached(file, {MATRIX: (width, width)})) is not None:
            found[name] = cached[MATRIX]
    missing = [name for name in modules if name not in found]
    if missing:
        log.info("reading %s for the covariance of %s", text, ", ".join(missing))
        # The tokenizer's warning about texts longer than the model's context is for those who do not cut them.
        ids = tokenizer(content, verbose=False).input_ids[:tokens] if content.strip() else []
        if not ids:
            raise ConfigError(f"The text {text} for the covariance is empty: name one with some 100,000 tokens.")
        measured = _measure(model, missing, torch.tensor(ids), on_progress)
        for name in files.keys() & measured.keys():
            save_cached(files[name], {MATRIX: measured[name]})
        found |= measured
    return {name: found[name] for name in modules}


def _measure(
    model: PreTrainedModel, modules: Sequence[str], ids: Tensor, on_progress: Progress | None
) -> dict[str, Tensor]:
    """The second moments of all modules in one pass over the ids."""
    sums: dict[str, Tensor] = {}

    whole = len(ids) - len(ids) % WINDOW
    batches = [rows for rows in torch.split(ids[:whole].view(-1, WINDOW), WINDOWS) if len(rows)]
    batches += [ids[whole:][None]] if whole < len(ids) else []
    device, done = next(model.parameters()).device, 0
    with frozen(model):
        for batch in batches:
            for name, read in activations(model, {"input_ids": batch.to(device)}, modules).items():
                # Some keys are thousands of times longer than others; in fp32 they would drown the small directions.
                keys = double(read.input.reshape(-1, read.input.shape[-1]))
                sums[name] = sums[name].addmm_(keys.T, keys) if name in sums else keys.T @ keys
            done += batch.numel()
            if on_progress is not None:
                on_progress(done, len(ids))
    dimension = max(map(len, sums.values()))
    if len(ids) < ENOUGH * dimension:
        log.warning(
            "The covariance of keys of %d dimensions comes from %d tokens: give a text of %d or more.",
            dimension,
            len(ids),
            ENOUGH * dimension,
        )
    return {name: (total / len(ids)).float().cpu() for name, total in sums.items()}
