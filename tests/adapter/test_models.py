"""Every kind of model: trained in a plain loop, counted by hand, saved, and the same in stock PEFT."""

import importlib.util
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn
from transformers import (
    AutoModelForCausalLM,
    BertConfig,
    BertForSequenceClassification,
    BitsAndBytesConfig,
    GPT2Config,
    GPT2LMHeadModel,
    GptOssConfig,
    GptOssForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
    MPNetConfig,
    MPNetForSequenceClassification,
    Qwen3MoeConfig,
    Qwen3MoeForCausalLM,
    RobertaConfig,
    RobertaForSequenceClassification,
    T5Config,
    T5ForConditionalGeneration,
)
from transformers.modeling_outputs import SequenceClassifierOutput

from roselora.adapter.config import RoseLoraConfig
from roselora.adapter.density_check import verify
from roselora.adapter.factors import factor_pairs
from roselora.errors import ConfigError, UnsupportedError

Batch = Mapping[str, Tensor]

LLAMA = {
    "vocab_size": 64,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "max_position_embeddings": 32,
    "pad_token_id": 0,
}
MOE = {**LLAMA, "num_local_experts": 4, "num_experts_per_tok": 2}
ENCODER = {key: value for key, value in LLAMA.items() if key != "num_key_value_heads"} | {"num_labels": 3}
EXPERTS = {"target_modules": [], "target_parameters": ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]}


class SmallConvolutions(nn.Module):
    """A classifier of 8x8 images with a Conv2d, a grouped Conv2d, a Conv1d, and an attention of torch's own."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.grouped = nn.Conv2d(8, 8, 3, groups=2, stride=2)
        self.flat = nn.Conv1d(8, 8, 3)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.head = nn.Linear(8, 3)

    def forward(self, pixel_values: Tensor, labels: Tensor) -> SequenceClassifierOutput:
        hidden = self.flat(self.grouped(self.first(pixel_values).relu()).flatten(2))
        hidden = hidden.mT
        logits = self.head(self.attention(hidden, hidden, hidden)[0].mean(1))
        return SequenceClassifierOutput(loss=nn.functional.cross_entropy(logits, labels), logits=logits)


def llama(**changes: Any) -> LlamaForCausalLM:
    return LlamaForCausalLM(LlamaConfig(**LLAMA | changes))


def gpt2() -> GPT2LMHeadModel:
    return GPT2LMHeadModel(GPT2Config(vocab_size=64, n_embd=16, n_layer=1, n_head=2, n_positions=32))


def t5() -> T5ForConditionalGeneration:
    shape = {"d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 1, "num_heads": 2, "decoder_start_token_id": 0}
    return T5ForConditionalGeneration(T5Config(vocab_size=64, **shape))


def qwen_moe() -> Qwen3MoeForCausalLM:
    shape = {"moe_intermediate_size": 12, "num_experts": 4, "num_experts_per_tok": 2, "head_dim": 8}
    return Qwen3MoeForCausalLM(Qwen3MoeConfig(**LLAMA | shape))


KINDS: dict[str, tuple[Callable[[], nn.Module], dict[str, Any]]] = {
    "llama": (llama, {"target_modules": "all-linear"}),
    "llama-bf16": (lambda: llama().to(torch.bfloat16), {"target_modules": ["q_proj", "down_proj"]}),
    "llama-fp16": (lambda: llama().to(torch.float16), {"target_modules": ["q_proj", "down_proj"]}),
    "llama-embeddings": (llama, {"target_modules": ["embed_tokens"]}),
    "llama-replicated-layers": (llama, {"target_modules": ["q_proj"], "layer_replication": [(0, 1), (0, 1)]}),
    "llama-rslora": (llama, {"target_modules": ["q_proj"], "use_rslora": True}),
    "llama-rank-pattern": (llama, {"target_modules": ["q_proj", "down_proj"], "rank_pattern": {"down_proj": 4}}),
    "llama-tied-embeddings": (
        lambda: llama(tie_word_embeddings=True),
        {"target_modules": ["embed_tokens", "lm_head", "q_proj"]},
    ),
    "gpt2": (gpt2, {"target_modules": ["c_attn", "c_fc"], "fan_in_fan_out": True}),
    "bert": (
        lambda: BertForSequenceClassification(BertConfig(**ENCODER)),
        {"target_modules": ["query", "dense"], "task_type": "SEQ_CLS"},
    ),
    "roberta": (
        lambda: RobertaForSequenceClassification(RobertaConfig(**ENCODER)),
        {"target_modules": ["query", "value"], "task_type": "SEQ_CLS"},
    ),
    "mpnet": (
        lambda: MPNetForSequenceClassification(MPNetConfig(**ENCODER)),
        {"target_modules": ["attn.q", "attn.v"], "task_type": "SEQ_CLS"},
    ),
    "t5": (t5, {"target_modules": ["q", "wi"], "task_type": "SEQ_2_SEQ_LM"}),
    "mixtral": (lambda: MixtralForCausalLM(MixtralConfig(**MOE)), EXPERTS),
    "qwen3-moe": (qwen_moe, {**EXPERTS, "target_modules": ["q_proj"]}),
    "gpt-oss": (lambda: GptOssForCausalLM(GptOssConfig(**MOE, head_dim=8)), EXPERTS),
    "convolutions": (SmallConvolutions, {"target_modules": ["first", "flat"]}),
    "torch-attention": (SmallConvolutions, {"target_modules": ["attention"]}),
}


def build(make: Callable[[], nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    return make()


def adapt(base: nn.Module, settings: Mapping[str, Any]) -> PeftModel:
    schedule = {"r": 2, "lora_alpha": 4, "density": 0.25, "warmup": 2, "ramp": 5, "total_steps": 10}
    torch.manual_seed(1)
    return get_peft_model(base, RoseLoraConfig(**schedule, **settings))


def batch_for(model: nn.Module, token_ids: Tensor) -> Batch:
    classes = torch.arange(8) % 3
    if isinstance(model, SmallConvolutions):
        return {"pixel_values": torch.randn(8, 3, 8, 8, generator=torch.Generator().manual_seed(3)), "labels": classes}
    return {"input_ids": token_ids, "labels": classes if hasattr(model, "classifier") else token_ids}


def train_on(model: PeftModel, batch: Batch) -> None:
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    for _ in range(10):
        model(**batch).loss.backward()
        optimizer.step()
        optimizer.zero_grad()


@torch.no_grad()
def logits(model: PeftModel, batch: Batch) -> Tensor:
    return model.eval()(**batch).logits


def assert_stock_peft_agrees(model: PeftModel, base: nn.Module, batch: Batch, folder: Path, atol: float = 0.0) -> None:
    model.save_pretrained(folder)
    assert verify(folder).update_nonzeros == verify(model).update_nonzeros
    stock = PeftModel.from_pretrained(base, folder)
    assert type(stock.peft_config["default"]) is LoraConfig
    torch.testing.assert_close(logits(model, batch), logits(stock, batch), rtol=0, atol=atol)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_model_ends_sparse_and_is_the_same_in_stock_peft(
    kind: str, token_ids: Tensor, assert_at_density: Callable[..., None], tmp_path: Path
) -> None:
    make, settings = KINDS[kind]
    base = build(make)
    batch = batch_for(base, token_ids)
    model = adapt(base, settings)
    train_on(model, batch)
    assert_at_density(model)
    # PEFT merges and unmerges torch's own attention at every forward pass, which moves the base's last bits.
    assert_stock_peft_agrees(model, build(make), batch, tmp_path, atol=1e-6 if kind == "torch-attention" else 0.0)


@pytest.mark.parametrize("kind", KINDS)
def test_the_counted_update_is_the_one_that_peft_would_merge(kind: str, token_ids: Tensor) -> None:
    make, settings = KINDS[kind]
    base = build(make)
    model = adapt(base, settings)
    train_on(model, batch_for(base, token_ids))
    updates = {
        name: layer.get_delta_weight("default") for name, layer in model.named_modules() if isinstance(layer, LoraLayer)
    }
    for matrix in verify(model).matrices:
        update = updates[f"base_model.model.{matrix.name}"]
        assert matrix.update_nonzeros == int(update.count_nonzero())
        assert matrix.entries == update.numel()


def test_a_convolution_in_groups_is_refused_at_injection() -> None:
    with pytest.raises(UnsupportedError, match=r"grouped has 2, which share the columns of its B"):
        adapt(SmallConvolutions(), {"target_modules": ["first", "grouped"]})


@pytest.mark.parametrize("kind", ["bert", "roberta", "mpnet"])
def test_a_classifiers_head_is_trained_whole_with_a_warning(kind: str) -> None:
    make, settings = KINDS[kind]
    with pytest.warns(UserWarning, match="modules_to_save are trained whole: classifier"):
        model = adapt(build(make), settings)
    assert any("modules_to_save" in name and p.requires_grad for name, p in model.named_parameters())


def test_tied_embeddings_get_factors_of_their_own() -> None:
    make, settings = KINDS["llama-tied-embeddings"]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Model has `tie_word_embeddings=True`")
        pairs = factor_pairs(adapt(build(make), settings), "default")
    assert len({factor.data_ptr() for pair in pairs for factor in (pair.a, pair.b)}) == 2 * len(pairs)


def test_old_names_of_experts_are_counted_in_the_model_and_refused_from_a_folder(
    token_ids: Tensor, assert_at_density: Callable[..., None], tmp_path: Path
) -> None:
    make, _ = KINDS["mixtral"]
    model = adapt(build(make), {"target_modules": ["w1", "w2", "w3"]})  # PEFT makes target_parameters of them
    train_on(model, {"input_ids": token_ids, "labels": token_ids})
    assert_at_density(model)
    assert {matrix.shape for matrix in verify(model).matrices} == {(4, 48, 16), (4, 16, 24)}
    model.save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="stacked experts at several ranks"):
        verify(tmp_path)


def quantized(bits: int, folder: Path) -> nn.Module:
    if not (folder / "config.json").exists():
        build(lambda: llama(hidden_size=64, intermediate_size=128)).save_pretrained(folder)
    if bits == 8:
        settings = BitsAndBytesConfig(load_in_8bit=True)
    else:
        settings = BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.float32
        )
    return AutoModelForCausalLM.from_pretrained(folder, quantization_config=settings, device_map="cpu")


@pytest.mark.skipif(importlib.util.find_spec("bitsandbytes") is None, reason="no bitsandbytes")
@pytest.mark.parametrize("bits", [4, 8])
def test_a_quantized_base_ends_sparse_and_is_the_same_in_stock_peft(
    bits: int, token_ids: Tensor, assert_at_density: Callable[..., None], tmp_path: Path
) -> None:
    model = adapt(quantized(bits, tmp_path / "base"), {"target_modules": ["q_proj", "down_proj"]})
    batch = {"input_ids": token_ids, "labels": token_ids}
    train_on(model, batch)
    assert_at_density(model)
    assert_stock_peft_agrees(model, quantized(bits, tmp_path / "base"), batch, tmp_path / "adapter")
