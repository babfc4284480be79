"""Qwen2 and Llama without ceremony: one forward pass on a cache that is allocated ahead.

transformers' own forward pass serves every model and every option; at one token a time its layers
of Python, and the copies that it makes of the output matrix, cost more than the arithmetic.
Sources: Llama (arXiv 2302.13971), Qwen2 (arXiv 2407.10671), rotary positions (2104.09864),
grouped queries (2305.13245), SwiGLU (2002.05202).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from fusion.llama_config import LlamaConfig
from fusion.quantize import Linear

#: A cache grows by doubling from this many positions.
_FIRST_CAPACITY = 256


class LlamaMemory:
    """Keys and values of one conversation, (layers, kv_heads, capacity, head_dim) each."""

    def __init__(self, config: LlamaConfig, dtype: torch.dtype) -> None:
        shape = (config.layers, config.kv_heads, 0, config.head_dim)
        self._keys = torch.empty(shape, dtype=dtype)
        self._values = torch.empty(shape, dtype=dtype)
        self._length = 0

    def get_seq_length(self) -> int:
        """Positions held."""
        return self._length

    def crop(self, change: int) -> None:
        """Forget the last `-change` positions (a negative count, as transformers' caches take)."""
        self._length = max(0, self._length + change)

    def __deepcopy__(self, _: object) -> LlamaMemory:
        copy = object.__new__(LlamaMemory)
        copy._length = self._length
        copy._keys = self._keys[:, :, : self._length].clone()
        copy._values = self._values[:, :, : self._length].clone()
        return copy

    def extend(self, count: int) -> None:
        """Make room for `count` more positions, which `write` then fills, layer by layer."""
        self._length += count
        capacity = self._keys.shape[2]
        if self._length > capacity:
            extra = max(self._length, 2 * capacity, _FIRST_CAPACITY) - capacity
            self._keys = F.pad(self._keys, (0, 0, 0, extra))
            self._values = F.pad(self._values, (0, 0, 0, extra))

    def write(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Put the last positions' (n, kv_heads, head_dim); all (kv_heads, length, head_dim)."""
        end, begin = self._length, self._length - keys.shape[0]
        self._keys[layer, :, begin:end] = keys.transpose(0, 1)
        self._values[layer, :, begin:end] = values.transpose(0, 1)
        return self._keys[layer, :, :end], self._values[layer, :, :end]


@dataclass(frozen=True, eq=False)
class LlamaLayer:
    """One layer's weights; queries, keys and values in one product, as gate and up are."""

    attention_norm: Tensor
    qkv: Linear
    output: Linear
    mlp_norm: Tensor
    gate_up: Linear
    down: Linear


@dataclass(frozen=True, eq=False)
class Llama:
    """The weights, shared by all streams; `embeddings` (vocabulary, hidden) may be mapped."""

    config: LlamaConfig
    embeddings: Tensor
    layers: tuple[LlamaLayer, ...]
    norm: Tensor
    head: Linear

    @property
    def hidden(self) -> int:
        """Width of an embedding."""
        return self.config.hidden

    @property
    def vocabulary(self) -> int:
        """How many token ids there are."""
        return self.config.vocabulary

    @property
    def context(self) -> int | None:
        """Positions that the model was made for."""
        return self.config.context

    @property
    def device(self) -> torch.device:
        """Where the model lies."""
        return self.embeddings.device

    def embed(self, ids: Tensor) -> Tensor:
        """Input embeddings (n, hidden) of token ids (n,)."""
        return F.embedding(ids, self.embeddings)

    def new_memory(self) -> LlamaMemory:
        """An empty memory for one conversation."""
        return LlamaMemory(self.config, self.embeddings.dtype)

    def logits(self, rows: Tensor, memory: LlamaMemory, keep: int = 1) -> Tensor:
        """Run embeddings (n, hidden) after `memory`; logits of the last `keep` (keep, vocab)."""
        memory.extend(rows.shape[0])
        places = _Places.of(self.config, memory.get_seq_length(), rows)
        for number, layer in enumerate(self.layers):
            seen = self._normed(rows, layer.attention_norm)
            rows = rows + layer.output(self._attend(layer.qkv(seen), memory, number, places))
            gate, up = layer.gate_up(self._normed(rows, layer.mlp_norm)).chunk(2, -1)
            rows = rows + layer.down(F.silu(gate) * up)
        return self.head(self._normed(rows[-keep:], self.norm))

    def _normed(self, rows: Tensor, weight: Tensor) -> Tensor:
        return F.rms_norm(rows, weight.shape, weight, self.config.epsilon)

    def _attend(self, qkv: Tensor, memory: LlamaMemory, number: int, places: _Places) -> Tensor:
        """Attention of the new positions (n, (heads + 2 kv) * dim) on all; (n, heads * dim).

        The queries that share a key-value head lie side by side as if they were positions, so that
        keys and values are never repeated.
        """
        heads, kv_heads, dim = self.config.heads, self.config.kv_heads, self.config.head_dim
        count, group = qkv.shape[0], heads // kv_heads
        parts = qkv.view(count, heads + 2 * kv_heads, dim)
        turned = places.turn(parts[:, : heads + kv_heads])
        keys, values = memory.write(number, turned[:, heads:], parts[:, heads + kv_heads :])
        queries = turned[:, :heads].view(count, kv_heads, group, dim).permute(1, 2, 0, 3)
        mixed = F.scaled_dot_product_attention(
            queries.reshape(1, kv_heads, group * count, dim), keys[None], values[None], places.mask
        )
        return mixed.reshape(heads, count, dim).transpose(0, 1).reshape(count, heads * dim)


@dataclass(frozen=True, eq=False)
class _Places:
    """What depends on the positions alone and is the same in all layers."""

    cosine: Tensor
    sine: Tensor
    mask: Tensor | None

    @classmethod
    def of(cls, config: LlamaConfig, end: int, rows: Tensor) -> _Places:
        """For the last of `end` positions, as many as there are `rows`."""
        begin, half = end - rows.shape[0], config.head_dim // 2
        pitch = config.rope_base ** (-torch.arange(half, dtype=torch.float32) / half)
        angles = torch.outer(torch.arange(begin, end, dtype=torch.float32), pitch)[:, None]
        mask = None
        if rows.shape[0] > 1:
            visible = torch.ones(end - begin, end, dtype=torch.bool).tril(begin)
            mask = visible.repeat(config.heads // config.kv_heads, 1)
        sine = angles.sin()
        return cls(
            torch.cat((angles.cos(), angles.cos()), -1).to(rows.dtype),
            torch.cat((-sine, sine), -1).to(rows.dtype),
            mask,
        )

    def turn(self, heads: Tensor) -> Tensor:
        """Rotate each pair of a head's two halves by its position's angle."""
        return heads * self.cosine + heads.roll(heads.shape[-1] // 2, -1) * self.sine
