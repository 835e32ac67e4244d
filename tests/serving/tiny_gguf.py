"""A tiny Llama as a GGUF file."""

from pathlib import Path

import numpy as np
from gguf import MODEL_ARCH, GGUFWriter, TokenType, get_tensor_name_map
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from roselora.serving.gguf_names import in_ggufs_order


def write_gguf(path: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> Path:
    """A Llama in fp32 with a byte-level tokenizer, as llama.cpp's converter would write it."""
    config = model.config
    writer = GGUFWriter(path, "llama")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_rope_dimension_count(config.hidden_size // config.num_attention_heads)
    writer.add_vocab_size(config.vocab_size)
    tokens = tokenizer.convert_ids_to_tokens(list(range(config.vocab_size)))
    special = set(tokenizer.all_special_ids)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types([TokenType.CONTROL if id in special else TokenType.NORMAL for id in range(len(tokens))])
    writer.add_token_merges(["Ā Ā"])  # two bytes 0; llama.cpp wants one merge at least
    writer.add_eos_token_id(tokenizer.eos_token_id)
    writer.add_add_bos_token(False)
    names = get_tensor_name_map(MODEL_ARCH.LLAMA, config.num_hidden_layers)
    for name, weight in model.named_parameters():
        rows = in_ggufs_order(model, name.removesuffix(".weight"), weight.detach())
        writer.add_tensor(names.get_name(name, (".weight",)), np.ascontiguousarray(rows.numpy()))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
