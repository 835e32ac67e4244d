"""Stand-ins for the hub models that PEFT's tests load: same architectures, tiny, with random weights, made here.

They are written as a hub cache, so ``from_pretrained`` finds them offline and nothing has to be patched. The tests
compare a model with itself before and after; which weights it has plays no part.
"""

from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

VOCABULARY = 1024

_SMALL = {"vocab_size": VOCABULARY, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
_BODY = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 32}
_GROUPED = _SMALL | _BODY | {"num_key_value_heads": 2}
_EXPERTS = _GROUPED | {"num_experts_per_tok": 2}
_ENCODER = _SMALL | _BODY | {"max_position_embeddings": 128}
_OPT = (
    _SMALL | _BODY | {"num_hidden_layers": 6, "ffn_dim": 32, "word_embed_proj_dim": 16, "max_position_embeddings": 128}
)
_GPT = _SMALL | {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 128}
_T5 = _SMALL | {"d_model": 16, "d_kv": 4, "d_ff": 32, "num_layers": 2, "num_heads": 4, "decoder_start_token_id": 0}
_BART = _SMALL | {
    "d_model": 16,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 32,
    "decoder_ffn_dim": 32,
    "max_position_embeddings": 128,
    "decoder_start_token_id": 2,
}

# Hub id: the model class and its configuration.
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "facebook/opt-125m": ("OPTForCausalLM", _OPT),
    "facebook/opt-350m": ("OPTForCausalLM", _OPT),
    "peft-internal-testing/opt-125m": ("OPTForCausalLM", _OPT),
    "peft-internal-testing/tiny-random-OPTForCausalLM": ("OPTForCausalLM", _OPT),
    "peft-internal-testing/tiny-random-OPTForCausalLM-extended-vocab": ("OPTForCausalLM", _OPT),
    "gpt2": ("GPT2LMHeadModel", _GPT),
    "openai-community/gpt2": ("GPT2LMHeadModel", _GPT),
    "hf-internal-testing/tiny-random-gpt2": ("GPT2LMHeadModel", _GPT),
    "peft-internal-testing/tiny-random-gpt2": ("GPT2LMHeadModel", _GPT),
    "peft-internal-testing/tiny-random-GPT2LMHeadModel": ("GPT2LMHeadModel", _GPT),
    "peft-internal-testing/tiny-random-GPTJForCausalLM": ("GPTJForCausalLM", _GPT | {"rotary_dim": 4}),
    "peft-internal-testing/tiny-random-GPTNeoXForCausalLM": ("GPTNeoXForCausalLM", _ENCODER),
    "peft-internal-testing/tiny-random-BloomForCausalLM": (
        "BloomForCausalLM",
        _SMALL | {"hidden_size": 16, "n_layer": 2, "n_head": 4},
    ),
    "trl-internal-testing/tiny-random-LlamaForCausalLM": ("LlamaForCausalLM", _SMALL | _BODY),
    "hf-internal-testing/tiny-random-LlamaForCausalLM": ("LlamaForCausalLM", _SMALL | _BODY),
    "peft-internal-testing/tiny-random-LlamaForCausalLM": ("LlamaForCausalLM", _SMALL | _BODY),
    "trl-internal-testing/tiny-LlamaForSequenceClassification-3.2": ("LlamaForSequenceClassification", _GROUPED),
    "hf-internal-testing/tiny-random-MistralForCausalLM": ("MistralForCausalLM", _GROUPED),
    "peft-internal-testing/tiny-dummy-qwen2": ("Qwen2ForCausalLM", _GROUPED),
    "trl-internal-testing/tiny-Qwen2ForCausalLM-2.5": ("Qwen2ForCausalLM", _GROUPED),
    "trl-internal-testing/tiny-Qwen3ForCausalLM": ("Qwen3ForCausalLM", _GROUPED | {"head_dim": 4}),
    "hf-internal-testing/tiny-random-Gemma3ForCausalLM": ("Gemma3ForCausalLM", _GROUPED | {"head_dim": 4}),
    "hf-internal-testing/Mixtral-tiny": ("MixtralForCausalLM", _EXPERTS | {"num_local_experts": 4}),
    "trl-internal-testing/tiny-Qwen3MoeForCausalLM": (
        "Qwen3MoeForCausalLM",
        _EXPERTS | {"num_experts": 4, "moe_intermediate_size": 32, "head_dim": 4},
    ),
    "trl-internal-testing/tiny-Llama4ForCausalLM": (
        "Llama4ForCausalLM",
        _GROUPED | {"num_local_experts": 4, "intermediate_size_mlp": 32, "head_dim": 4},
    ),
    "trl-internal-testing/tiny-GptOssForCausalLM": (
        "GptOssForCausalLM",
        _EXPERTS | {"num_local_experts": 4, "head_dim": 4},
    ),
    "peft-internal-testing/tiny-random-T5ForConditionalGeneration": ("T5ForConditionalGeneration", _T5),
    "peft-internal-testing/tiny-random-T5ForConditionalGeneration-calibrated": ("T5ForConditionalGeneration", _T5),
    "peft-internal-testing/tiny-random-t5": ("T5ForConditionalGeneration", _T5),
    "peft-internal-testing/tiny-random-BartForConditionalGeneration": ("BartForConditionalGeneration", _BART),
    "peft-internal-testing/tiny-random-BertModel": ("BertModel", _ENCODER),
    "peft-internal-testing/tiny-random-RobertaModel": ("RobertaModel", _ENCODER),
    "peft-internal-testing/tiny-random-DebertaModel": ("DebertaModel", _ENCODER),
    "peft-internal-testing/tiny-random-DebertaV2Model": ("DebertaV2Model", _ENCODER),
    "peft-internal-testing/tiny-random-BertForSequenceClassification": ("BertForSequenceClassification", _ENCODER),
    "peft-internal-testing/tiny-random-RobertaForSequenceClassification": (
        "RobertaForSequenceClassification",
        _ENCODER,
    ),
    "peft-internal-testing/tiny-clip-text-2": (
        "CLIPTextModel",
        _ENCODER | {"projection_dim": 16, "max_position_embeddings": 77},
    ),
}


def make_hub_cache(folder: Path) -> None:
    """Write every stand-in under ``folder``, in the layout of a Hugging Face hub cache."""
    tokenizer = _tokenizer()
    for hub_id, (class_name, settings) in MODELS.items():
        repository = folder / ("models--" + hub_id.replace("/", "--"))
        snapshot = repository / "snapshots" / "main"
        model_class = getattr(transformers, class_name)
        torch.manual_seed(0)
        model = model_class(model_class.config_class(**settings))
        model.save_pretrained(snapshot)
        tokenizer.save_pretrained(snapshot)
        (repository / "refs").mkdir(parents=True)
        (repository / "refs" / "main").write_text("main", encoding="ascii")


def _tokenizer() -> transformers.PreTrainedTokenizerFast:
    """One token per byte, behind the three special ones."""
    specials = ("<pad>", "<s>", "</s>")
    names = [*specials, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    tokenizer = Tokenizer(models.BPE(vocab={name: number for number, name in enumerate(names)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=specials[0], bos_token=specials[1], eos_token=specials[2]
    )
