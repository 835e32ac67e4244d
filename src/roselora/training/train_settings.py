"""What a training run is: every key of a config file, its default and its meaning."""

import difflib
import math
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from roselora.files import user_path
from roselora.training.example_shapes import SHAPES, Shape
from roselora.user_files import shown

Method = Literal["rose", "lora", "dora", "adalora", "shira", "ia3", "prefix", "loreft", "full"]
COLUMNS = tuple(dict.fromkeys(name for _, model in SHAPES for name in model.model_fields))
"""All columns that training data of one shape or another can have."""

LARGEST = 2**31 - 1
"""Of every number that counts something: torch and its optimizers count no further."""
Count = Annotated[int, Field(ge=1, le=LARGEST)]
Position = Annotated[int, Field(ge=0, le=LARGEST)]
Positive = Annotated[float, Field(gt=0, le=1e30)]
"""Torch holds numbers up to 3e38, and multiplies these."""
Amount = Annotated[
    Position | Annotated[float, Field(ge=0)], AfterValidator(lambda value: value or 0)
]  # 0.0 and 0 say the same, and are written alike
"""Steps, or with a decimal point a fraction of all steps."""


def _home_expanded(source: str) -> str:
    """A leading ~ is the home folder; all else stays as typed, since ``./name`` is a folder and ``name`` may be not."""
    expanded = str(user_path(source))
    return expanded if source.startswith("~") else source


Name = Annotated[str, Field(min_length=1)]
Folder = Annotated[str, Field(min_length=1), AfterValidator(lambda folder: str(user_path(folder)))]
Source = Annotated[str, Field(min_length=1), AfterValidator(_home_expanded)]
"""A path, or where it may be one the name of something else."""


class _Section(BaseModel):
    # Defaults are checked too, so that equal settings are written alike: 16.0, whether a file says 16 or nothing.
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, validate_default=True)

    @field_validator("*", mode="before")
    @classmethod
    def _yes_and_no_are_no_numbers(cls, value: Any, info: ValidationInfo) -> Any:
        if isinstance(value, bool) and cls.model_fields[str(info.field_name)].annotation is not bool:
            raise ValueError("yes and no (true and false) are nothing that this key takes; a text stands in quotes")
        return value


class DataSettings(_Section):
    """Where the examples are and how they look."""

    train: Source = Field(description="A .jsonl, .json or .csv file, or a dataset's hub id.")
    eval: Source | None = Field(None, description="Held-out examples, likewise; their loss (and accuracy) is reported.")
    split: str = Field("train", description="The split of a hub dataset.", min_length=1)
    shape: Shape | Literal["auto"] = Field(
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
    max_examples: Count | None = Field(None, description="Use only the first so many records.")

    @field_validator("columns")
    @classmethod
    def _of_a_shape(cls, columns: dict[str, str]) -> dict[str, str]:
        for wanted, own in columns.items():
            if wanted not in COLUMNS:
                meant = difflib.get_close_matches(wanted, COLUMNS, n=1)
                known = f"did you mean {meant[0]}" if meant else f"there are {', '.join(COLUMNS)}"
                raise ValueError(f"no shape has a column {shown(wanted)}; {known}")
            if list(columns.values()).count(own) > 1:
                raise ValueError(f"the column {shown(own)} stands for two of them; give each its own")
        return columns


class AdapterSettings(_Section):
    """The adapter; `density` to `clamp` are of rose alone; ia3 and prefix have no rank, loreft no alpha and dropout."""

    rank: Count = Field(8, description="r of each adapted matrix.")
    alpha: Positive = Field(16, description="The update is scaled by alpha / rank.")
    dropout: float = Field(0.0, ge=0, lt=1, description="LoRA dropout.")
    target_modules: Annotated[list[Name], Field(min_length=1)] | Literal["all-linear"] = Field(
        "all-linear", description="Names of the adapted modules, or all-linear; not of full, prefix and loreft."
    )
    density: float = Field(0.05, description="Fraction kept of each row of A and column of B.")
    importance_beta: float = Field(0.8, description="How much of the old importance each step keeps.")
    warmup: Amount = Field(0.1, description="Dense steps: a number, or a fraction of all steps.")
    ramp: Amount = Field(0.7, description="Steps in which the density falls: a number, or a fraction.")
    clamp: Positive | None = Field(None, description="Bound on every entry of A and B after each step.")
    virtual_tokens: Count = Field(20, description="Of the method prefix: how many trained keys and values.")
    first_positions: Position = Field(7, description="Of loreft: tokens at a prompt's beginning that it changes.")
    last_positions: Position = Field(7, description="Of loreft: likewise at its end.")
    layers: list[Position] | None = Field(None, description="Of loreft: the blocks after which it acts; none: all.")
    shared_positions: bool = Field(True, description="Of loreft: whether beginning and end are changed alike.")


class TrainingSettings(_Section):
    """The loop around the method."""

    epochs: Positive = Field(3.0, description="Passes over the data.")
    max_steps: Count | None = Field(None, description="Optimizer steps; takes the place of epochs.")
    batch_size: Count = Field(8, description="Examples a device sees at once.")
    gradient_accumulation: Count = Field(1, description="Batches summed into one optimizer step.")
    learning_rate: Positive = Field(5e-4, description="Peak learning rate of AdamW.")
    lr_scheduler: Literal["linear", "cosine", "constant"] = Field("linear", description="Its course after warm-up.")
    lr_warmup: Amount = Field(0.05, description="Steps in which it rises from 0: a number, or a fraction of all steps.")
    weight_decay: float = Field(0.0, ge=0, le=1e30, description="Of AdamW.")
    max_grad_norm: Positive | None = Field(1.0, description="Gradients are clipped to this norm; null: not clipped.")
    max_length: int = Field(512, ge=2, le=LARGEST, description="Longer examples are cut, in tokens.")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="Dtype of the frozen base; auto keeps the checkpoint's own."
    )
    device: str = Field(
        "auto", description="auto (CUDA, then MPS, then the CPU), cpu, cuda or mps; of several GPUs torch's first."
    )
    gradient_checkpointing: bool = Field(False, description="Recompute activations to save memory.")
    seed: int = Field(0, ge=0, lt=2**32, description="Of initial values, dropout and the order of examples.")
    log_steps: Count = Field(5, description="Steps between two lines of the log.")
    eval_steps: Count | None = Field(None, description="Steps between two evaluations; none: only at the end.")
    save_steps: Count | None = Field(None, description="Steps between checkpoints; none: only when interrupted.")
    report_to: str = Field("none", description="A tracker that transformers knows, such as wandb; none by default.")

    @field_validator("max_grad_norm", mode="before")
    @classmethod
    def _no_clipping(cls, value: Any) -> Any:
        if isinstance(value, float) and value == math.inf:
            raise ValueError("no clipping is written null")
        return value

    @field_validator("lr_warmup")
    @classmethod
    def _fraction_or_steps(cls, value: int | float) -> int | float:
        if isinstance(value, float) and value >= 1:
            raise ValueError("a fraction must be less than 1; a number of steps is written without a point")
        return value


class RetentionSettings(_Section):
    """Prompts on which the tuned model should go on as its base does (rose only)."""

    prompts: Source | None = Field(
        None, description="A file with one prompt a line (.txt) or with a prompt or text in each record; none: off."
    )
    weight: Positive = Field(1.0, description="How much of their sensitivity is subtracted from the importance.")
    every: Count = Field(1, description="Optimizer steps between two looks at them.")
    batch_size: Count = Field(4, description="Prompts at each look.")
    max_length: int = Field(128, ge=2, le=LARGEST, description="Longer prompts are cut, in tokens.")


class TrainSettings(_Section):
    """A training run, as a config file gives it."""

    model: Source = Field(description="demo, a folder, a .gguf file or a hub id.")
    method: Method = Field(
        "rose", description="rose, or for comparison lora, dora, adalora, shira, ia3, prefix, loreft or full."
    )
    output: Folder = Field("output", description="A new or empty folder for all that is written.")
    data: DataSettings
    adapter: AdapterSettings = AdapterSettings()
    training: TrainingSettings = TrainingSettings()
    retention: RetentionSettings = RetentionSettings()

    @model_validator(mode="after")
    def _retention_needs_pruning(self) -> "TrainSettings":
        if self.retention.prompts is not None and self.method != "rose":
            raise ValueError(f"retention works by choosing entries, which the method {self.method} does not do")
        return self

    @model_validator(mode="after")
    def _prefix_needs_its_cache(self) -> "TrainSettings":
        if self.training.gradient_checkpointing and self.method == "prefix":
            raise ValueError("a prefix is in the cache, which gradient_checkpointing turns off; leave one of them out")
        return self

    @model_validator(mode="after")
    def _evaluation_needs_examples(self) -> "TrainSettings":
        if self.training.eval_steps is not None and self.data.eval is None:
            raise ValueError("training.eval_steps needs held-out examples; name them in data.eval, or leave it out")
        return self

    @property
    def checkpoints(self) -> Path:
        """Where checkpoints lie."""
        return Path(self.output, "checkpoints")
