"""What a training run is: every key of a config file, its default and its meaning."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

Method = Literal["rose", "lora", "dora", "adalora", "shira", "ia3", "prefix", "loreft", "full"]
Shape = Literal["auto", "instruction", "chat", "completion", "classification"]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DataSettings(_Section):
    """Where the examples are and how they look."""

    train: str = Field(description="A .jsonl, .json or .csv file, or a dataset's hub id.", min_length=1)
    eval: str | None = Field(None, description="Held-out examples, likewise; their loss (and accuracy) is reported.")
    split: str = Field("train", description="The split of a hub dataset.")
    shape: Shape = Field(
        "auto",
        description="auto (by the columns), instruction (instruction, input, output), chat (messages), "
        "completion (prompt, completion; or text) or classification (text, text_pair, label; labels with a fraction: "
        "a regression).",
    )
    columns: dict[str, str] = Field(
        default_factory=dict, description="Other names of those columns in the data, such as {text: sentence}."
    )
    prompt_style: Literal["auto", "chat", "alpaca"] = Field(
        "auto",
        description="How an instruction is put: by the tokenizer's chat template, if any, or as Alpaca's.",
    )
    max_examples: int | None = Field(None, ge=1, description="Use only the first so many examples.")


class AdapterSettings(_Section):
    """The adapter; `density` to `clamp` are of rose alone; ia3 and prefix have no rank, loreft no alpha and dropout."""

    rank: int = Field(8, ge=1, description="r of each adapted matrix.")
    alpha: float = Field(16, gt=0, description="The update is scaled by alpha / rank.")
    dropout: float = Field(0.0, ge=0, lt=1, description="LoRA dropout.")
    target_modules: list[str] | Literal["all-linear"] = Field(
        "all-linear", description="Names of the adapted modules, or all-linear."
    )
    density: float = Field(0.05, description="Fraction kept of each row of A and column of B.")
    importance_beta: float = Field(0.8, description="How much of the old importance each step keeps.")
    warmup: int | float = Field(0.1, description="Dense steps: a number, or a fraction of all steps.")
    ramp: int | float = Field(0.7, description="Steps in which the density falls: a number, or a fraction.")
    clamp: float | None = Field(None, description="Bound on every entry of A and B after each step.")
    virtual_tokens: int = Field(20, ge=1, description="Of the method prefix: how many trained keys and values.")
    first_positions: int = Field(7, ge=0, description="Of loreft: tokens at a prompt's beginning that it changes.")
    last_positions: int = Field(7, ge=0, description="Of loreft: likewise at its end.")
    layers: list[int] | None = Field(None, description="Of loreft: the blocks after which it acts; none: all.")
    shared_positions: bool = Field(True, description="Of loreft: whether beginning and end are changed alike.")


class TrainingSettings(_Section):
    """The loop around the method."""

    epochs: float = Field(3.0, gt=0, description="Passes over the data.")
    max_steps: int | None = Field(None, ge=1, description="Optimizer steps; takes the place of epochs.")
    batch_size: int = Field(8, ge=1, description="Examples a device sees at once.")
    gradient_accumulation: int = Field(1, ge=1, description="Batches summed into one optimizer step.")
    learning_rate: float = Field(5e-4, gt=0, allow_inf_nan=False, description="Peak learning rate of AdamW.")
    lr_scheduler: Literal["linear", "cosine", "constant"] = Field("linear", description="Its course after warm-up.")
    lr_warmup: int | float = Field(
        0.05, ge=0, description="Steps in which it rises from 0: a number, or a fraction of all steps."
    )
    weight_decay: float = Field(0.0, ge=0, description="Of AdamW.")
    max_grad_norm: float = Field(1.0, gt=0, description="Gradients are clipped to this norm.")
    max_length: int = Field(512, ge=2, description="Longer examples are cut, in tokens.")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="Dtype of the frozen base; auto keeps the checkpoint's own."
    )
    device: str = Field(
        "auto", description="auto (CUDA, then MPS, then the CPU), cpu, cuda or mps; of several GPUs torch's first."
    )
    gradient_checkpointing: bool = Field(False, description="Recompute activations to save memory.")
    seed: int = Field(0, ge=0, description="Of initial values, dropout and the order of examples.")
    log_steps: int = Field(5, ge=1, description="Steps between two lines of the log.")
    eval_steps: int | None = Field(None, ge=1, description="Steps between two evaluations; none: only at the end.")
    save_steps: int | None = Field(None, ge=1, description="Steps between checkpoints; none: only when interrupted.")
    report_to: str = Field("none", description="A tracker that transformers knows, such as wandb; none by default.")

    @field_validator("lr_warmup")
    @classmethod
    def _fraction_or_steps(cls, value: int | float) -> int | float:
        if isinstance(value, float) and value >= 1:
            raise ValueError("a fraction must be less than 1; a number of steps is written without a point")
        return value


class RetentionSettings(_Section):
    """Prompts on which the tuned model should go on as its base does (rose only)."""

    prompts: str | None = Field(
        None, description="A file with one prompt a line (.txt) or with a prompt or text in each record; none: off."
    )
    weight: float = Field(1.0, gt=0, description="How much of their sensitivity is subtracted from the importance.")
    every: int = Field(1, ge=1, description="Optimizer steps between two looks at them.")
    batch_size: int = Field(4, ge=1, description="Prompts at each look.")
    max_length: int = Field(128, ge=2, description="Longer prompts are cut, in tokens.")


class TrainSettings(_Section):
    """A training run, as a config file gives it."""

    model: str = Field(description="demo, a folder, a .gguf file or a hub id.", min_length=1)
    method: Method = Field(
        "rose", description="rose, or for comparison lora, dora, adalora, shira, ia3, prefix, loreft or full."
    )
    output: str = Field("output", description="A new or empty folder for all that is written.", min_length=1)
    data: DataSettings
    adapter: AdapterSettings = AdapterSettings()
    training: TrainingSettings = TrainingSettings()
    retention: RetentionSettings = RetentionSettings()

    @model_validator(mode="after")
    def _retention_needs_pruning(self) -> "TrainSettings":
        if self.retention.prompts is not None and self.method != "rose":
            raise ValueError(f"retention works by choosing entries, which the method {self.method} does not do")
        return self

    @property
    def checkpoints(self) -> Path:
        """Where checkpoints lie."""
        return Path(self.output, "checkpoints")
