"""The settings of a training run: every key of a config file, its default and its meaning."""

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
"""The upper bound of every count: torch and its optimizers count no further."""
Count = Annotated[int, Field(ge=1, le=LARGEST)]
Position = Annotated[int, Field(ge=0, le=LARGEST)]
Positive = Annotated[float, Field(gt=0, le=1e30)]
"""float32 ends at 3e38, and these numbers are multiplied by others."""
Amount = Annotated[
    Position | Annotated[float, Field(ge=0)], AfterValidator(lambda value: value or 0)
]  # 0.0 and 0 mean the same, and are written alike
"""A number of steps, or, with a decimal point, a fraction of all steps."""


def _home_expanded(source: str) -> str:
    """Expand a leading ~ and keep the rest as typed: ``./name`` is a folder, while ``name`` may be a hub id."""
    expanded = str(user_path(source))
    return expanded if source.startswith("~") else source


Name = Annotated[str, Field(min_length=1)]
Folder = Annotated[str, Field(min_length=1), AfterValidator(lambda folder: str(user_path(folder)))]
Source = Annotated[str, Field(min_length=1), AfterValidator(_home_expanded)]
"""A path, or a name such as a hub id."""


class _Section(BaseModel):
    # Defaults are validated too, so that equal settings are equal in a checkpoint: 16.0, not the 16 of the default.
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, validate_default=True)

    @field_validator("*", mode="before")
    @classmethod
    def _refuse_yes_and_no(cls, value: Any, info: ValidationInfo) -> Any:
        if isinstance(value, bool) and cls.model_fields[str(info.field_name)].annotation is not bool:
            raise ValueError("this key takes no yes and no (true and false); put quotes around a text")
        return value


class DataSettings(_Section):
    """The training examples and their format."""

    train: Source = Field(description="A .jsonl, .json or .csv file, or a dataset's hub id.")
    eval: Source | None = Field(None, description="The validation set, likewise; its loss (and accuracy) is reported.")
    split: str = Field("train", description="The split of a hub dataset.", min_length=1)
    shape: Shape | Literal["auto"] = Field(
        "auto",
        description="auto (by the columns), instruction (instruction, input, output), chat (messages), "
        "completion (prompt, completion; or text) or classification (text, text_pair, label; numbers with a decimal "
        "point are learned by regression).",
    )
    columns: dict[str, str] = Field(
        default_factory=dict, description="The data's own names of these columns, such as {text: sentence}."
    )
    prompt_style: Literal["auto", "chat", "alpaca"] = Field(
        "auto",
        description="Format of an instruction: auto (chat if there is a template), chat, or alpaca.",
    )
    max_examples: Count | None = Field(None, description="Use only this many records, the first ones.")

    @field_validator("columns")
    @classmethod
    def _of_a_shape(cls, columns: dict[str, str]) -> dict[str, str]:
        for wanted, own in columns.items():
            if wanted not in COLUMNS:
                meant = difflib.get_close_matches(wanted, COLUMNS, n=1)
                known = f"did you mean {meant[0]}" if meant else f"there are {', '.join(COLUMNS)}"
                raise ValueError(f"no shape has a column {shown(wanted)}; {known}")
            if list(columns.values()).count(own) > 1:
                raise ValueError(f"the column {shown(own)} is named twice; give each column its own")
        return columns


class AdapterSettings(_Section):
    """The adapter; `density` to `clamp` are for rose only; ia3 and prefix have no rank, loreft no alpha and dropout."""

    rank: Count = Field(8, description="r of each adapted matrix.")
    alpha: Positive = Field(16, description="The update is scaled by alpha / rank.")
    dropout: float = Field(0.0, ge=0, lt=1, description="LoRA dropout.")
    target_modules: Annotated[list[Name], Field(min_length=1)] | Literal["all-linear"] = Field(
        "all-linear", description="Names of the adapted modules, or all-linear; unused by full, prefix and loreft."
    )
    density: float = Field(0.05, description="Fraction kept of each row of A and column of B.")
    importance_beta: float = Field(0.8, description="How much of the old importance each step keeps.")
    warmup: Amount = Field(0.1, description="Dense steps: a number, or a fraction of all steps.")
    ramp: Amount = Field(0.7, description="Steps in which the density falls: a number, or a fraction.")
    clamp: Positive | None = Field(None, description="Bound on every entry of A and B after each step.")
    virtual_tokens: Count = Field(20, description="For prefix: the number of trained keys and values.")
    first_positions: Position = Field(7, description="For loreft: changed tokens at the beginning of a prompt.")
    last_positions: Position = Field(7, description="For loreft: changed tokens at the end of a prompt.")
    layers: list[Position] | None = Field(None, description="For loreft: the blocks after which it acts; null: all.")
    shared_positions: bool = Field(True, description="For loreft: one intervention for beginning and end.")


class TrainingSettings(_Section):
    """The training loop."""

    epochs: Positive = Field(3.0, description="Passes over the data.")
    max_steps: Count | None = Field(None, description="Optimizer steps; replaces epochs.")
    batch_size: Count = Field(8, description="Examples per device and forward pass.")
    gradient_accumulation: Count = Field(1, description="Batches summed into one optimizer step.")
    learning_rate: Positive = Field(5e-4, description="Peak learning rate of AdamW.")
    lr_scheduler: Literal["linear", "cosine", "constant"] = Field(
        "linear", description="How the rate changes after warm-up."
    )
    lr_warmup: Amount = Field(
        0.05, description="Steps in which the rate rises from 0: a number, or a fraction of all steps."
    )
    weight_decay: float = Field(0.0, ge=0, le=1e30, description="Weight decay of AdamW.")
    max_grad_norm: Positive | None = Field(1.0, description="Gradients are clipped to this norm; null: not clipped.")
    max_length: int = Field(512, ge=2, le=LARGEST, description="Tokens of an example; longer ones are truncated.")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="Dtype of the base model; auto is the checkpoint's own."
    )
    device: str = Field(
        "auto", description="auto (CUDA, then MPS, then the CPU), cpu, cuda or mps; the first of several GPUs."
    )
    gradient_checkpointing: bool = Field(False, description="Recompute activations to save memory.")
    seed: int = Field(0, ge=0, lt=2**32, description="For initialization, dropout and the order of examples.")
    log_steps: Count = Field(5, description="Steps between two log entries.")
    eval_steps: Count | None = Field(None, description="Steps between two evaluations; null: only at the end.")
    save_steps: Count | None = Field(None, description="Steps between two checkpoints; null: only if interrupted.")
    report_to: str = Field("none", description="A tracker that transformers knows, such as wandb; none by default.")

    @field_validator("max_grad_norm", mode="before")
    @classmethod
    def _no_clipping(cls, value: Any) -> Any:
        if isinstance(value, float) and value == math.inf:
            raise ValueError("write null for no clipping")
        return value

    @field_validator("lr_warmup")
    @classmethod
    def _fraction_or_steps(cls, value: int | float) -> int | float:
        if isinstance(value, float) and value >= 1:
            raise ValueError("a fraction must be less than 1; a number of steps is written without a point")
        return value


class RetentionSettings(_Section):
    """Prompts on which the trained model should keep the base model's output (rose only)."""

    prompts: Source | None = Field(
        None, description="A file with one prompt a line (.txt), or with prompt or text in each record; null: off."
    )
    weight: Positive = Field(1.0, description="Factor of their sensitivity, which is subtracted from the importance.")
    every: Count = Field(1, description="Optimizer steps between two measurements.")
    batch_size: Count = Field(4, description="Prompts per measurement.")
    max_length: int = Field(128, ge=2, le=LARGEST, description="Tokens of a prompt; longer ones are truncated.")


class TrainSettings(_Section):
    """A training run, as written in a config file."""

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
            raise ValueError("a prefix is in the cache, which gradient_checkpointing turns off; use only one of them")
        return self

    @model_validator(mode="after")
    def _evaluation_needs_examples(self) -> "TrainSettings":
        if self.training.eval_steps is not None and self.data.eval is None:
            raise ValueError("training.eval_steps needs a validation set; name one in data.eval, or leave it out")
        return self

    @property
    def checkpoints(self) -> Path:
        """The folder of the checkpoints."""
        return Path(self.output, "checkpoints")
