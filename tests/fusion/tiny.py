"""Small seeded models for tests: a byte-level tokenizer, and a random Qwen2."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from fusion.decoder import Decoder

TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|image_pad|>"]
HIDDEN = 32


def byte_vocabulary() -> dict[str, int]:
    """Every byte is a token, and so are the special marks, and one pair for merging."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    return {token: index for index, token in enumerate([*alphabet, *SPECIAL, "ab"])}


def byte_tokenizer() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE(byte_vocabulary(), []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(SPECIAL)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|im_end|>", chat_template=TEMPLATE
    )


def tiny_config(**changes: object) -> Qwen2Config:
    settings: dict[str, object] = {
        "hidden_size": HIDDEN,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": len(byte_vocabulary()),
        "max_position_embeddings": 512,
        "tie_word_embeddings": False,
        "eos_token_id": byte_vocabulary()["<|im_end|>"],
        "bos_token_id": None,
    }
    return Qwen2Config(**(settings | changes))


def tiny_decoder(seed: int = 0, scale: float = 8.0) -> Decoder:
    """A random model; `scale` spreads its logits, so that greedy choices are clear."""
    torch.manual_seed(seed)
    model = Qwen2ForCausalLM(tiny_config()).float()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim == 2:
                weight.mul_(scale if "lm_head" not in name else 4 * scale)
    return Decoder.of(model, byte_tokenizer(), "tiny")


@dataclass(frozen=True, eq=False)
class Features:
    patches: Tensor
    pooled: Tensor
    grid: tuple[int, int] = (1, 1)
    encoder: str = "toy"


@dataclass(frozen=True, eq=False)
class Words:
    names: tuple[str, ...]
    weights: Tensor
    bias: Tensor
    scale: float = 1.0
