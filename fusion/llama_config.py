"""Reads the shape of a Qwen2 or Llama model from its config.json, and refuses every other."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fusion.errors import FusionError

_KINDS = ("qwen2", "llama")


@dataclass(frozen=True)
class LlamaConfig:
    """The shape of a model, as its config.json tells it."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    epsilon: float
    rope_base: float
    context: int
    vocabulary: int

    @classmethod
    def read(cls, folder: Path) -> LlamaConfig:
        """From a folder of transformers; FusionError for a model that `llama` does not cover."""
        told = read_json(folder / "config.json")
        if reason := _not_covered(told):
            raise FusionError(
                f"expected a plain {' or '.join(_KINDS)} model in {folder}, but {reason}; "
                "run it without quantisation"
            )
        heads = told["num_attention_heads"]
        return cls(
            hidden=told["hidden_size"],
            layers=told["num_hidden_layers"],
            heads=heads,
            kv_heads=told.get("num_key_value_heads") or heads,
            head_dim=told.get("head_dim") or told["hidden_size"] // heads,
            epsilon=told["rms_norm_eps"],
            rope_base=_rope(told).get("rope_theta", 10_000.0),
            context=told["max_position_embeddings"],
            vocabulary=told["vocab_size"],
        )


def end_ids(folder: Path, own: int | None = None) -> frozenset[int]:
    """The ids that end an answer: `own` (the tokenizer's), and those of the generation config."""
    found = {own}
    if (folder / "generation_config.json").is_file():
        told = read_json(folder / "generation_config.json").get("eos_token_id")
        found |= set(told) if isinstance(told, list) else {told}
    return frozenset(number for number in found if number is not None)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object; FusionError if the file has none."""
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as problem:
        raise FusionError(f"expected a model's {path.name} at {path}, but {problem}") from None
    if not isinstance(content, dict):
        raise FusionError(f"expected a JSON object in {path}, but it holds something else")
    return content


def _rope(told: dict[str, Any]) -> dict[str, Any]:
    """Rotary settings, which newer configs keep apart and older ones among the others."""
    return told.get("rope_parameters") or {"rope_theta": told.get("rope_theta", 10_000.0)}


def _not_covered(told: dict[str, Any]) -> str:
    """Why a config is not covered, or ""."""
    rope = _rope(told) | (told.get("rope_scaling") or {})
    expected = (
        ("model_type", told.get("model_type"), _KINDS),
        ("hidden_act", told.get("hidden_act"), ("silu",)),
        ("use_sliding_window", told.get("use_sliding_window", False), (False,)),
        ("mlp_bias", told.get("mlp_bias", False), (False,)),
        ("rope_type", rope.get("rope_type", rope.get("type", "default")), ("default",)),
    )
    return next((f"its {key} is {came!r}" for key, came, fine in expected if came not in fine), "")
