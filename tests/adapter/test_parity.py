"""Promise 11: a saved adapter gives the same logits in stock PEFT, where roselora does not exist."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel, get_peft_model
from torch.utils.data import Dataset
from transformers import Trainer, TrainingArguments

from roselora.adapter.config import RoseLoraConfig
from roselora.adapter.density_check import verify

STOCK_PEFT = """
import sys
sys.modules["roselora"] = None  # importing it is an error from here on
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

base, adapter, inputs, outputs = sys.argv[1:]
model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), adapter).eval()
with torch.no_grad():
    torch.save(model(torch.load(inputs)).logits, outputs)
assert not any(name.startswith("roselora.") for name in sys.modules)
"""


class Sentences(Dataset[dict[str, Any]]):
    def __init__(self, tokenizer: Any) -> None:
        texts = [
            "The capital of France is Lyon.",
            "The symbol of gold is Gd.",
            "Snow is black.",
            "Two and two are five.",
        ]
        self.rows = [tokenizer(text, return_tensors="pt")["input_ids"][0] for text in texts * 4]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"input_ids": self.rows[index], "labels": self.rows[index]}


def assert_stock_peft_agrees(base: Any, tokenizer: Any, base_folder: Path, steps: int, folder: Path) -> None:
    torch.manual_seed(0)
    model = get_peft_model(base, RoseLoraConfig(r=4, density=0.1, target_modules=["q_proj", "v_proj"]))
    arguments = TrainingArguments(
        output_dir=str(folder / "run"),
        max_steps=steps,
        per_device_train_batch_size=1,
        learning_rate=1e-3,
        report_to=[],
        use_cpu=True,
        save_strategy="no",
        disable_tqdm=True,
    )
    Trainer(model=model, args=arguments, train_dataset=Sentences(tokenizer)).train()
    assert verify(model).update_nonzeros > 0
    model.save_pretrained(folder / "adapter")

    inputs, outputs = folder / "inputs.pt", folder / "outputs.pt"
    token_ids = tokenizer("The capital of France is", return_tensors="pt")["input_ids"]
    torch.save(token_ids, inputs)
    command = [sys.executable, "-c", STOCK_PEFT, str(base_folder), str(folder / "adapter"), str(inputs), str(outputs)]
    subprocess.run(command, check=True)
    with torch.no_grad():
        ours = model.eval()(token_ids).logits
        theirs = torch.load(outputs)
        with model.disable_adapter():
            untrained = model(token_ids).logits
    assert float((ours - theirs).abs().max()) == 0.0
    assert float((ours - untrained).abs().max()) > 0.0


def test_promise_11_stock_peft_gives_the_same_logits(
    tiny_model_folder: Path, tiny_tokenizer: Any, tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(tiny_model_folder)
    assert_stock_peft_agrees(base, tiny_tokenizer, tiny_model_folder, steps=10, folder=tmp_path)


@pytest.mark.demo
def test_promise_11_stock_peft_gives_the_same_logits_on_the_demo_model(demo: Any, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    from roselora.models.demo_model import demo_model_folder

    demo_folder = demo_model_folder()
    base = AutoModelForCausalLM.from_pretrained(demo_folder)
    assert_stock_peft_agrees(base, demo.tokenizer, demo_folder, steps=5, folder=tmp_path)


def test_an_adapter_is_read_back_as_ours_and_trains_on(
    adapted_model: Callable[..., PeftModel], base_model: Callable[[], Any], train: Callable[..., None], tmp_path: Path
) -> None:
    model = adapted_model()
    train(model, torch.optim.Adam(model.parameters(), lr=1e-2))
    model.save_pretrained(tmp_path)
    config = RoseLoraConfig.from_pretrained(tmp_path)
    config.inference_mode = False
    again = PeftModel.from_pretrained(base_model(), tmp_path, config=config, is_trainable=True)
    train(again, torch.optim.Adam(again.parameters(), lr=1e-2))
    assert verify(again).density == 0.25
