"""NaN and infinity are found where they begin, and never saved: by whatever method a model is trained."""

import math
from collections.abc import Iterable
from typing import Any, cast

import torch
from datasets import Dataset
from torch import Tensor, nn
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from roselora.adapter.sharding import local_part
from roselora.errors import NonFiniteError


def require_finite(tensors: Iterable[tuple[str, Tensor]], advice: str) -> None:
    """Refuse tensors of which one holds NaN or infinity; those of integers, such as packed bits, cannot.

    Raises:
        NonFiniteError: one does; the message names it and ends with the advice.
    """
    named = [(name, local_part(tensor.detach())) for name, tensor in tensors if tensor.is_floating_point()]
    named = [(name, tensor) for name, tensor in named if tensor.numel()]
    if not named:
        return
    # One look at the device for all of them, and no mask of a tensor's size.
    finite = torch.stack([_largest(tensor) for _, tensor in named]).isfinite().tolist()
    for (name, _), is_finite in zip(named, finite, strict=True):
        if not is_finite:
            raise NonFiniteError(f"{name} holds NaN or infinity {advice}.")


def _largest(tensor: Tensor) -> Tensor:
    low, high = (tensor if tensor.element_size() > 1 else tensor.to(torch.float16)).aminmax()
    return torch.maximum(low.abs(), high.abs()).float()


def require_finite_loss(trainer: Trainer) -> None:
    """Refuse a trained model that gives NaN: the last step may have made factors whose product is not finite.

    Raises:
        NonFiniteError: its loss of a batch of what it was trained on is not finite.
    """
    batch = next(iter(trainer.get_eval_dataloader(cast(Dataset, trainer.train_dataset))))
    loss, _, _ = trainer.prediction_step(trainer.model_wrapped, batch, prediction_loss_only=True)
    if loss is not None and not bool(loss.isfinite().all()):
        raise NonFiniteError(f"The loss of the trained model is {float(loss)} {_after(trainer.state.global_step)}.")


def trained_tensors(model: nn.Module) -> list[tuple[str, Tensor]]:
    """The parameters that training changes, by name."""
    return [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]


class FiniteCallback(TrainerCallback):
    """Ends a training at the step after which a parameter, or the loss, is NaN or infinite."""

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Look at every trained parameter before the step can get into a checkpoint.

        Raises:
            NonFiniteError: one is not finite.
        """
        require_finite(trained_tensors(kwargs["model"]), _after(state.global_step))

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Look at the last training loss: a GradScaler leaves out the steps of losses that are not finite, maybe all.

        Raises:
            NonFiniteError: it is not finite.
        """
        loss = (logs or {}).get("loss", 0.0)
        if state.global_step >= state.max_steps and not math.isfinite(loss):
            raise NonFiniteError(f"The training loss is {loss} {_after(state.global_step)}.")


def _after(step: int) -> str:
    return f"after step {step}; lower the learning rate, or clip gradients: nothing of it is saved"
