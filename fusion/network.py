"""What the decoder asks of a language model, and transformers' models in that form."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor


class Memory(Protocol):
    """Keys and values of one conversation; `copy.deepcopy` gives an independent one."""

    def crop(self, change: int) -> None:
        """Forget the last `-change` positions."""
        ...


class Network(Protocol):
    """A causal language model that holds no stream."""

    @property
    def hidden(self) -> int:
        """Width of an embedding."""
        ...

    @property
    def vocabulary(self) -> int:
        """How many token ids there are."""
        ...

    @property
    def context(self) -> int | None:
        """Positions that the model was made for, where it says."""
        ...

    @property
    def device(self) -> torch.device:
        """Where the model lies."""
        ...

    def embed(self, ids: Tensor) -> Tensor:
        """Input embeddings (n, hidden) of token ids (n,)."""
        ...

    def new_memory(self) -> Any:
        """An empty memory for one conversation."""
        ...

    def logits(self, rows: Tensor, memory: Any, keep: int = 1) -> Tensor:
        """Run embeddings (n, hidden) after `memory`; logits of the last `keep` (keep, vocab)."""
        ...


@dataclass(frozen=True, eq=False)
class TransformersNetwork:
    """Any causal language model of transformers."""

    model: Any

    @classmethod
    def load(cls, folder: Path, device: str, dtype: torch.dtype) -> TransformersNetwork:
        """Load the model in `folder`, opening no socket; raises what transformers raises."""
        # Imported late: it takes longer than loading a quantised model, which needs none of it.
        from transformers import AutoModelForCausalLM
        from transformers.utils import logging

        bars = logging.is_progress_bar_enabled()
        logging.disable_progress_bar()
        try:
            model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, local_files_only=True)
        finally:
            if bars:
                logging.enable_progress_bar()
        return cls(model.to(device))

    @property
    def _table(self) -> Any:
        return self.model.get_input_embeddings()

    @property
    def hidden(self) -> int:
        """Width of an embedding."""
        return int(self._table.weight.shape[1])

    @property
    def vocabulary(self) -> int:
        """How many token ids there are."""
        return int(self._table.weight.shape[0])

    @property
    def context(self) -> int | None:
        """Positions that the model was made for, where its config says."""
        limit: int | None = getattr(self.model.config, "max_position_embeddings", None)
        return limit

    @property
    def device(self) -> torch.device:
        """Where the model lies."""
        device: torch.device = self._table.weight.device
        return device

    def embed(self, ids: Tensor) -> Tensor:
        """Input embeddings (n, hidden) of token ids (n,)."""
        rows: Tensor = self._table(ids)
        return rows.detach()

    def new_memory(self) -> Any:
        """An empty memory for one conversation."""
        from transformers import DynamicCache

        return DynamicCache(config=self.model.config)

    def logits(self, rows: Tensor, memory: Any, keep: int = 1) -> Tensor:
        """Run embeddings (n, hidden) after `memory`; logits of the last `keep` (keep, vocab)."""
        out = self.model(
            inputs_embeds=rows[None], past_key_values=memory, use_cache=True, logits_to_keep=keep
        )
        logits: Tensor = out.logits[0]
        return logits
