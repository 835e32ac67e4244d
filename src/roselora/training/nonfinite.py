"""NaN and infinity are found at the step where they appear, and never saved, whatever the method."""

import math
from collections.abc import Iterable
from typing import Any, cast

import torch
from datasets import Dataset
from torch import Tensor
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from roselora.adapter.sharding import local_part
from roselora.errors import NonFiniteError


def require_finite(tensors: Iterable[tuple[str, Tensor]], advice: str) -> None:
    """Refuse named tensors that hold NaN or infinity; tensors of integers, such as packed bits, cannot.

    Raises:
        NonFiniteError: one holds NaN or infinity. The message names it and ends with ``advice``.

    >>> require_finite([("bias", torch.tensor([1.0, float("nan")]))], "after step 3")
    Traceback (most recent call last):
    ...
    roselora.errors.NonFiniteError: bias holds NaN or infinity after step 3.
    """
    parts = [(name, local_part(tensor.detach())) for name, tensor in tensors if tensor.is_floating_point()]
    parts = [(name, part) for name, part in parts if part.numel()]
    if not parts:
        return
    # A tensor is finite if its smallest and largest value are, which takes no mask of its size. One transfer from the
    # device brings all answers.
    finite = torch.stack([_largest(part) for _, part in parts]).isfinite().tolist()
    for (name, _), is_finite in zip(parts, finite, strict=True):
        if not is_finite:
            raise NonFiniteError(f"{name} holds NaN or infinity {advice}.")


def _largest(tensor: Tensor) -> Tensor:
    low, high = (tensor if tensor.element_size() > 1 else tensor.to(torch.float16)).aminmax()
    return torch.maximum(low.abs(), high.abs()).float()


def require_finite_loss(trainer: Trainer) -> None:
    """Refuse a trained model whose loss is not finite: finite factors can have a product that is not.

    Raises:
        NonFiniteError: the loss of a batch of training examples is NaN or infinite.
    """
    batch = next(iter(trainer.get_eval_dataloader(cast(Dataset, trainer.train_dataset))))
    loss, _, _ = trainer.prediction_step(trainer.model_wrapped, batch, prediction_loss_only=True)
    if loss is not None and not bool(loss.isfinite().all()):
        raise NonFiniteError(f"The loss of the trained model is {float(loss)} {_after(trainer.state.global_step)}.")


class FiniteCallback(TrainerCallback):
    """Ends training, with a NonFiniteError, at the step after which a parameter or the loss is NaN or infinite."""

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Check every trained parameter, before a checkpoint of this step is written."""
        trained = ((name, weight) for name, weight in kwargs["model"].named_parameters() if weight.requires_grad)
        require_finite(trained, _after(state.global_step))

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Check the last loss: a GradScaler skips steps with gradients that are not finite, and may skip them all."""
        loss = (logs or {}).get("loss", 0.0)
        if state.global_step >= state.max_steps and not math.isfinite(loss):
            raise NonFiniteError(f"The training loss is {loss} {_after(state.global_step)}.")


def _after(step: int) -> str:
    return f"after step {step}; lower the learning rate, or clip gradients: nothing is saved"
