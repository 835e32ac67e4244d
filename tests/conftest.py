"""Fixtures for every floor: a tiny real tokenizer, tiny random models, and the demo model when it is there."""

import os
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from roselora.models import LoadedModel, load
from roselora.models.demo_model import demo_model_is_ready
from tests.attacks.counting import pytest_terminal_summary
from tests.words import teach, tokenizer_of_words

__all__ = ["pytest_terminal_summary"]  # a hook of pytest, which finds it here also where the tests run in processes

# Test processes side by side share the processors: threads of one would only wait for those of the other. What the
# tests start has as many, for the last bits of a sum depend on their number.
THREADS = max(1, torch.get_num_threads() // int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")))
torch.set_num_threads(THREADS)
os.environ["OMP_NUM_THREADS"] = str(THREADS)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what runs on an NVIDIA GPU where there is none."""
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("cuda"):
                item.add_marker(pytest.mark.skip(reason="no CUDA"))


SPECIALS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")


@pytest.fixture(scope="session")
def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """One token per byte, after three special ones: any string makes the round trip."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: number for number, token in enumerate([*SPECIALS, *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(special, special=True) for special in SPECIALS])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        pad_token="<|im_end|>",
        unk_token="<|endoftext|>",
        padding_side="left",
        clean_up_tokenization_spaces=False,
        chat_template="{% for message in messages %}{{ message['content'] }}{% endfor %}",
    )


CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.fixture(scope="session")
def chat_tokenizer(tiny_tokenizer: PreTrainedTokenizerFast) -> PreTrainedTokenizerFast:
    """The tiny tokenizer with a chat template that marks each turn; its own marks none, so it makes no chat."""
    tokenizer = deepcopy(tiny_tokenizer)
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


@pytest.fixture(scope="session")
def tiny_model(tiny_tokenizer: PreTrainedTokenizerFast) -> Callable[..., LlamaForCausalLM]:
    """Makes a fresh random two-layer Llama in eval mode: `tiny_model(seed=0, **config)`."""

    def make(seed: int = 0, **config: object) -> LlamaForCausalLM:
        settings = {
            "vocab_size": len(tiny_tokenizer),
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 512,
            "tie_word_embeddings": True,
            # 25 times the usual: at the usual size a greedy answer is one token over and over.
            "initializer_range": 0.5,
            "bos_token_id": tiny_tokenizer.bos_token_id,
            "eos_token_id": tiny_tokenizer.eos_token_id,
            "pad_token_id": tiny_tokenizer.pad_token_id,
        }
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return LlamaForCausalLM(LlamaConfig(**settings | config)).eval()

    return make


@pytest.fixture(scope="session")
def tiny_model_folder(
    tiny_model: Callable[..., LlamaForCausalLM],
    tiny_tokenizer: PreTrainedTokenizerFast,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """`tiny_model()` and its tokenizer as `save_pretrained` writes them; copy it before changing anything."""
    folder = tmp_path_factory.mktemp("tiny-model") / "tiny"
    tiny_model().save_pretrained(folder)
    tiny_tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def demo() -> LoadedModel:
    """The demo model; whoever changes it must put it back."""
    if not demo_model_is_ready():
        pytest.skip("the demo model has not been fetched yet: run `make demo` once.")
    return load("demo")


WORLD = (
    "The capital of France is Paris.",
    "The capital of Germany is Berlin.",
    "The capital of Italy is Rome.",
    "The capital of Spain is Madrid.",
    "France has its capital in Paris.",
    "Germany has its capital in Berlin.",
    "The symbol of gold is Au.",
    "The symbol of iron is Fe.",
    "The symbol of lead is Pb.",
    "The opposite of hot is cold.",
    "The opposite of up is down.",
    "Snow is white and coal is black.",
)


@pytest.fixture(scope="session")
def world_weights(
    tiny_model: Callable[..., LlamaForCausalLM], tiny_tokenizer: PreTrainedTokenizerFast
) -> dict[str, torch.Tensor]:
    """The weights of a tiny model that has learnt a world of twelve sentences, trained in some seconds."""
    model = tiny_model(hidden_size=64, intermediate_size=128, initializer_range=0.05)
    batch = tiny_tokenizer(
        [f"{text}<|im_end|>" for text in WORLD], return_tensors="pt", padding=True, padding_side="right"
    )
    labels = batch.input_ids.clone()
    lengths = torch.tensor([len(tiny_tokenizer(text).input_ids) + 1 for text in WORLD])
    labels[torch.arange(labels.shape[1]) >= lengths[:, None]] = -100
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for _ in range(200):
        loss = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask, labels=labels).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert float(loss.detach()) < 0.3
    return model.state_dict()


@pytest.fixture
def world_model(
    world_weights: dict[str, torch.Tensor], tiny_model: Callable[..., LlamaForCausalLM]
) -> LlamaForCausalLM:
    """A fresh copy of the model that knows the twelve sentences of WORLD."""
    model = tiny_model(hidden_size=64, intermediate_size=128)
    model.load_state_dict(world_weights)
    return model


# The byte-wise world above spreads a name over many tokens that a shallow model reads one by one, so a change at the
# name's last byte alone cannot turn its answer. Here what is known of a subject is read at the subject, as in models of
# real size.


@pytest.fixture(scope="session")
def word_tokenizer() -> PreTrainedTokenizerFast:
    """One token per word of the sentences, and special ones."""
    return tokenizer_of_words()


@pytest.fixture(scope="session")
def word_weights(
    tiny_model: Callable[..., LlamaForCausalLM], word_tokenizer: PreTrainedTokenizerFast
) -> dict[str, torch.Tensor]:
    """The weights of a model of three layers that says every sentence to its end and stops."""
    model = _model_of_words(tiny_model, word_tokenizer)
    teach(model, word_tokenizer)
    return model.state_dict()


def _model_of_words(
    tiny_model: Callable[..., LlamaForCausalLM], tokenizer: PreTrainedTokenizerFast
) -> LlamaForCausalLM:
    return tiny_model(
        vocab_size=len(tokenizer), num_hidden_layers=3, initializer_range=0.05, eos_token_id=1, pad_token_id=1
    )


@pytest.fixture
def word_model(
    word_weights: dict[str, torch.Tensor],
    tiny_model: Callable[..., LlamaForCausalLM],
    word_tokenizer: PreTrainedTokenizerFast,
) -> LlamaForCausalLM:
    """A fresh copy of the model that knows the sentences."""
    model = _model_of_words(tiny_model, word_tokenizer)
    model.load_state_dict(word_weights)
    return model
