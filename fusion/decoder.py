"""The language model: streams text from its forward pass, with a cache that the caller holds."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from fusion.errors import FusionError
from fusion.llama import Llama
from fusion.llama_config import end_ids
from fusion.network import Memory, Network, TransformersNetwork
from fusion.quantize_file import is_quantised, load_quantised
from fusion.sampling import Sampler
from fusion.text_stream import Detokeniser, StopFilter
from fusion.tokenizer import ChatTokenizer

#: Prompts are run through the model in pieces of this many tokens, to bound the memory they take.
PREFILL_TOKENS = 512


@dataclass(frozen=True)
class DecodeOptions:
    """How to choose tokens and when to end; checked once, here.

    Greedy by default (temperature 0): an answer about a picture should not depend on a draw.
    """

    max_tokens: int = 96
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0
    stop: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what has no meaning, with a FusionError that names the option."""
        checks = (
            (self.max_tokens >= 1, "max_tokens of 1 or more", self.max_tokens),
            (0.0 <= self.temperature < 100.0, "a temperature from 0 to 100", self.temperature),
            (self.top_k >= 0, "top_k of 0 (off) or more", self.top_k),
            (0.0 < self.top_p <= 1.0, "top_p above 0 and up to 1", self.top_p),
            (all(self.stop), "stop strings that are not empty", self.stop),
        )
        for fine, expected, came in checks:
            if not fine:
                raise FusionError(f"expected {expected}, but got {came}; change that option")


class Finish(StrEnum):
    """Why a stream ended."""

    END = "end"
    STOP_STRING = "stop_string"
    LENGTH = "length"


@dataclass(frozen=True)
class EmbeddedPrompt:
    """A prompt ready for the model: ids (n,) int64, and their embeddings (n, hidden).

    Where an image stands, the ids are placeholders and the embeddings are the image's soft tokens.
    """

    input_ids: Tensor
    embeddings: Tensor

    def __len__(self) -> int:
        return int(self.input_ids.shape[0])


@dataclass
class KVCache:
    """What the model remembers of one conversation; made by `Decoder.new_cache`.

    `ids` (n,) and `embeddings` (n, hidden) are the inputs that it has seen, so that a next prompt
    reuses exactly what it has in common with them.
    """

    layers: Memory
    ids: Tensor
    embeddings: Tensor

    def __len__(self) -> int:
        return int(self.ids.shape[0])

    def crop(self, length: int) -> None:
        """Forget everything after the first `length` inputs."""
        if length < len(self):
            # Newer transformers take only how many to remove, older ones take that as well.
            self.layers.crop(length - len(self))
            self.ids, self.embeddings = self.ids[:length], self.embeddings[:length]

    def fork(self) -> KVCache:
        """An independent copy: what is written to one is not seen by the other."""
        return KVCache(copy.deepcopy(self.layers), self.ids.clone(), self.embeddings.clone())

    def shared_length(self, prompt: EmbeddedPrompt) -> int:
        """How many leading inputs `prompt` has in common with what is remembered."""
        count = min(len(self), len(prompt))
        same = (self.ids[:count] == prompt.input_ids[:count]) & (
            self.embeddings[:count] == prompt.embeddings[:count]
        ).all(-1)
        different = (~same).nonzero()
        return int(different[0]) if len(different) else count


class Guide(Protocol):
    """Tells which tokens an answer may go on with; one per stream, as it holds what was taken."""

    @property
    def ended(self) -> bool:
        """Whether nothing may follow."""
        ...

    def forced(self) -> list[int]:
        """The tokens that alone may come next; they count as taken."""
        ...

    def mask(self, logits: Tensor) -> Tensor:
        """`logits` (vocab,) with minus infinity where a token may not come next."""
        ...

    def take(self, token: int) -> None:
        """`token` comes next."""
        ...


class TextStream(Iterator[str]):
    """Pieces of text as they become certain; `finish` and `tokens` tell how it ended."""

    def __init__(self) -> None:
        self.finish: Finish | None = None
        self.tokens = 0
        self._pieces: Iterator[str] = iter(())

    def __next__(self) -> str:
        return next(self._pieces)


@dataclass(frozen=True)
class _Choice:
    """Picks what comes next, freely or where a guide allows it."""

    sampler: Sampler
    guide: Guide | None

    @property
    def ended(self) -> bool:
        """Whether the answer has its whole form already."""
        return self.guide is not None and self.guide.ended

    def next(self, logits: Tensor) -> list[int]:
        """One token, and those that can only follow it: they need no forward pass of their own."""
        if self.guide is None:
            return [self.sampler.pick(logits)]
        if forced := self.guide.forced():
            return forced
        token = self.sampler.pick(self.guide.mask(logits))
        self.guide.take(token)
        return [token, *self.guide.forced()]


@dataclass(frozen=True, eq=False)
class Decoder:
    """A causal language model with its tokenizer, shared by all streams.

    `model` is one of transformers, or a `Llama` with quantised weights.
    """

    model: Any
    tokenizer: Any
    name: str
    end_ids: frozenset[int] = field(default=frozenset())

    @classmethod
    def load(
        cls,
        folder: Path,
        *,
        threads: int | None = None,
        device: str = "cpu",
        dtype: torch.dtype = torch.bfloat16,
        name: str | None = None,
    ) -> Decoder:
        """Load a transformers folder, or one that `quantize_file` wrote; opens no socket.

        bf16 by default: a two-core CPU decodes at the pace at which it reads the weights. A
        quantised model runs on the CPU and has its own precision. `name` (default: the folder's)
        is compared with the adapter's header. FusionError if the folder holds no causal language
        model.
        """
        if threads is not None:
            torch.set_num_threads(threads)
        if not (folder / "config.json").is_file():
            raise FusionError(
                f"expected a language model's folder at {folder}, but it has no config.json; "
                "give a folder in transformers' format"
            )
        if is_quantised(folder):
            return cls._load_quantised(folder, device, name or folder.name)
        try:
            model = TransformersNetwork.load(folder, device, dtype).model
            tokenizer = _load_tokenizer(folder)
        except (OSError, ValueError, KeyError, RuntimeError) as problem:
            reason = str(problem).strip().split("\n")[0]
            raise FusionError(
                f"expected a causal language model in {folder}, but it does not load: {reason}"
            ) from problem
        return cls.of(model, tokenizer, name or folder.name)

    @classmethod
    def _load_quantised(cls, folder: Path, device: str, name: str) -> Decoder:
        if torch.device(device).type != "cpu":
            raise FusionError(
                f"expected the device cpu for the quantised model {name}, but got {device}; "
                "load it without quantisation"
            )
        tokenizer = ChatTokenizer(folder)
        return cls(load_quantised(folder), tokenizer, name, end_ids(folder, tokenizer.eos_token_id))

    @classmethod
    def of(cls, model: Any, tokenizer: Any, name: str) -> Decoder:
        """Wrap a model of transformers and its tokenizer that are in memory already."""
        model.eval().requires_grad_(False)
        ends = [model.generation_config.eos_token_id, getattr(tokenizer, "eos_token_id", None)]
        flat = [i for end in ends for i in (end if isinstance(end, list) else [end])]
        return cls(model, tokenizer, name, frozenset(i for i in flat if i is not None))

    @cached_property
    def network(self) -> Network:
        """The model in the form in which the decoder runs it."""
        return self.model if isinstance(self.model, Llama) else TransformersNetwork(self.model)

    @property
    def hidden_size(self) -> int:
        """Width of an embedding."""
        return self.network.hidden

    @property
    def device(self) -> torch.device:
        """Where the model lies."""
        return self.network.device

    def token_ids(self, text: str) -> list[int]:
        """The ids of `text`, with nothing added before or after."""
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    def embed(self, ids: Sequence[int] | Tensor) -> Tensor:
        """The model's own input embeddings (n, hidden) of token ids, in the model's dtype."""
        places = torch.as_tensor(ids, dtype=torch.long, device=self.device)
        return self.network.embed(places)

    def new_cache(self) -> KVCache:
        """An empty cache for one conversation."""
        none = torch.empty(0, dtype=torch.long, device=self.device)
        return KVCache(self.network.new_memory(), none, self.embed(none))

    @torch.inference_mode()
    def prefill(
        self, prompt: EmbeddedPrompt, cache: KVCache, chunk: int = PREFILL_TOKENS
    ) -> Tensor:
        """Run `prompt` into `cache` and return the last position's logits (vocab,), float32.

        What the cache already holds of the prompt's start is kept, anything else is forgotten.
        """
        if not len(prompt):
            raise FusionError("expected a prompt with at least one token, but it is empty")
        cache.crop(min(cache.shared_length(prompt), len(prompt) - 1))
        logits = torch.empty(0)
        for start in range(len(cache), len(prompt), chunk):
            stop = min(start + chunk, len(prompt))
            logits = self._forward(
                prompt.input_ids[start:stop], prompt.embeddings[start:stop], cache
            )
        return logits

    def _forward(self, ids: Tensor, embeddings: Tensor, cache: KVCache) -> Tensor:
        logits = self.network.logits(embeddings, cache.layers)[-1].float()
        cache.ids = torch.cat((cache.ids, ids))
        cache.embeddings = torch.cat((cache.embeddings, embeddings))
        return logits

    def stream(
        self,
        prompt: EmbeddedPrompt,
        options: DecodeOptions,
        cache: KVCache | None = None,
        guide: Guide | None = None,
    ) -> TextStream:
        """Answer `prompt` with text pieces; nothing is computed before the first is asked for.

        `cache` (default: a new one) afterwards holds the prompt and the answer so far, also when
        the caller stops listening early, and makes the next turn cheap. `guide` keeps the answer
        to a form. FusionError if the prompt and the answer may not fit in the model's context.
        """
        limit = self.network.context
        if limit is not None and len(prompt) + options.max_tokens > limit:
            raise FusionError(
                f"expected a prompt and answer of at most {limit} tokens, but they take "
                f"{len(prompt)} + {options.max_tokens}; shorten the history or max_tokens"
            )
        stream = TextStream()
        # an empty cache is falsy
        cache = cache if cache is not None else self.new_cache()
        sampler = Sampler(options.temperature, options.top_k, options.top_p, options.seed)
        choice = _Choice(sampler, guide)
        stream._pieces = self._pieces(prompt, options, cache, stream, choice)
        return stream

    def _pieces(
        self,
        prompt: EmbeddedPrompt,
        options: DecodeOptions,
        cache: KVCache,
        stream: TextStream,
        choice: _Choice,
    ) -> Iterator[str]:
        text, gate = Detokeniser(self._decode), StopFilter(options.stop)
        for token in self._tokens(prompt, options.max_tokens, cache, stream, choice):
            if piece := gate.push(text.push(token)):
                yield piece
            if gate.stopped:
                stream.finish = Finish.STOP_STRING
                return
        tail = gate.push(text.flush())
        if gate.stopped:
            stream.finish = Finish.STOP_STRING
        if tail := tail + gate.flush():
            yield tail

    def _tokens(
        self,
        prompt: EmbeddedPrompt,
        budget: int,
        cache: KVCache,
        stream: TextStream,
        choice: _Choice,
    ) -> Iterator[int]:
        """Token ids up to the model's end sign or the budget; the last one is not run again."""
        logits = self.prefill(prompt, cache)
        while True:
            chosen = choice.next(logits)
            tokens = chosen[: budget - stream.tokens]
            for token in tokens:
                if token in self.end_ids:
                    stream.finish = Finish.END
                    return
                stream.tokens += 1
                yield token
            if choice.ended and len(tokens) == len(chosen):
                stream.finish = Finish.END
                return
            if stream.tokens == budget:
                stream.finish = Finish.LENGTH
                return
            logits = self._step(tokens, cache)

    @torch.inference_mode()
    def _step(self, tokens: Sequence[int], cache: KVCache) -> Tensor:
        ids = torch.tensor(tokens, device=self.device)
        return self._forward(ids, self.embed(ids), cache)

    def tokenizer_json(self) -> str:
        """The tokenizer as its tokenizer.json says it; FusionError if it is not of that kind."""
        backend = getattr(self.tokenizer, "backend_tokenizer", None)
        if backend is None:
            raise FusionError(
                f"expected a tokenizer.json with {self.name}, but its tokenizer is of another "
                "kind; use a model with a fast tokenizer"
            )
        text: str = backend.to_str()
        return text

    def _decode(self, ids: Sequence[int]) -> str:
        text: str = self.tokenizer.decode(
            list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return text


def _load_tokenizer(folder: Path) -> Any:
    """The folder's own tokenizer.json as it is written; only without one, transformers' guess."""
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    if (folder / "tokenizer.json").is_file():
        return PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True)
    return AutoTokenizer.from_pretrained(folder, local_files_only=True)
