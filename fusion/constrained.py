"""Text of a given form: which tokens may come next, by a grammar that llguidance compiles.

The masks are llguidance's (MIT, github.com/guidance-ai/llguidance), which walks a trie of the
vocabulary beside an Earley parser; with the default model's 150,000 tokens, finding and applying
one takes about half a millisecond. Where only one text can follow, its tokens are not sampled.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from llguidance import LLMatcher, LLParserLimits, LLTokenizer
from torch import Tensor

from fusion.decoder import Decoder
from fusion.errors import FusionError

#: The marks around a call in the chat templates of Qwen2.5, Qwen3 and Hermes.
CALL_OPENS, CALL_CLOSES = "<tool_call>", "</tool_call>"
#: As chat templates write JSON, so that a call in the history reads as it was written; without
#: free white space no model can write spaces for ever.
_LAYOUT = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
_ANY_OBJECT: Mapping[str, Any] = {"type": "object"}


def call_head(name: str) -> str:
    """What is written of a call before its arguments."""
    return f'{{"name": "{name}", "arguments": '


class SchemaError(FusionError):
    """A JSON schema that is wrong, or that needs what cannot be enforced token by token."""


@dataclass(frozen=True)
class Function:
    """A function that may be called: its name, and the JSON schema of its arguments."""

    name: str
    parameters: Mapping[str, Any]


class Guide:
    """One answer on its way through a grammar; see `fusion.decoder.Guide`."""

    def __init__(self, matcher: Any, vocabulary: int) -> None:
        self._matcher = matcher
        self._bits = torch.zeros((vocabulary + 31) // 32, dtype=torch.int32)
        self._vocabulary = vocabulary

    @property
    def ended(self) -> bool:
        """Whether nothing may follow."""
        return bool(self._matcher.is_stopped())

    def forced(self) -> list[int]:
        """The tokens that alone may come next; they count as taken."""
        tokens: list[int] = self._matcher.compute_ff_tokens()
        if tokens:
            self._matcher.consume_tokens(tokens)
            self._check()
        return tokens

    def mask(self, logits: Tensor) -> Tensor:
        """`logits` (vocab,) with minus infinity where a token may not come next."""
        self._matcher.unsafe_compute_mask_ptr(self._bits.data_ptr(), 4 * self._bits.numel())
        self._check()
        bits = np.unpackbits(self._bits.numpy().view(np.uint8), bitorder="little")
        allowed = torch.from_numpy(bits[: self._vocabulary]).to(logits.device)
        return logits.masked_fill(allowed == 0, -torch.inf)

    def take(self, token: int) -> None:
        """`token` comes next."""
        self._matcher.consume_token(token)
        self._check()

    def _check(self) -> None:
        if self._matcher.is_error():
            raise SchemaError(
                "expected a form that the answer can follow token by token, but "
                f"{_reason(self._matcher.get_error())}; use a simpler JSON schema"
            )


class Constrainer:
    """Makes guides for one decoder's vocabulary; shared by all answers."""

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder

    def json(self, schema: Mapping[str, Any]) -> Guide:
        """The answer is JSON of this schema; SchemaError if that cannot be enforced."""
        return self._guide(f"start: {_json(schema)}\n")

    def calls(
        self,
        functions: Sequence[Function],
        *,
        forced: bool,
        several: bool,
        schema: Mapping[str, Any] | None = None,
    ) -> Guide:
        """The answer calls functions in their right form.

        Small models leave out the marks around a call, so an answer that begins as the JSON of a
        call is held to be one, too.

        Args:
            functions: those that may be called, at least one; their names need no escapes in JSON.
            forced: whether it must begin with a call; else it may be, or begin with, other text.
            several: whether more than one call may follow the text.
            schema: of the JSON that an answer without a call is; None for any text.

        Raises:
            SchemaError: a function's parameters, or `schema`, cannot be enforced.
        """
        opens, closes = self._mark(CALL_OPENS), self._mark(CALL_CLOSES)
        rules = [f'marked: "\\n" call "\\n" {closes}']
        more = f'("\\n" {opens} marked)*' if several else ""
        if forced:
            rules.append(f"start: {opens} marked {more}")
        else:
            again = '("\\n" call)*' if several else ""
            answer = "TEXT" if schema is None else _json(schema)
            rules.append(f"start: {answer} | head marked {more} | call {again}")
            rules += self._heads(opens, functions, text=schema is None)
        rules.append("call: " + " | ".join(f"call_{i}" for i in range(len(functions))))
        for i, function in enumerate(functions):
            form = _json({**_ANY_OBJECT, **function.parameters})
            rules.append(f'call_{i}: {json.dumps(call_head(function.name))} {form} "}}"')
        return self._guide("\n".join(rules) + "\n")

    @staticmethod
    def _heads(opens: str, functions: Sequence[Function], *, text: bool) -> list[str]:
        """How a call with its marks begins: after `text`, or at once."""
        if not text:
            return [f"head: {opens}"]
        names = "|".join(function.name for function in functions)
        call = f'\\{{"name": "({names})", "arguments": '
        return [
            f"TEXT: /(.|\\n)*/ & ~/{call}(.|\\n)*/",
            f"head: TEXT {opens} | spelt",
            # A mark in words must begin a call too: a reader of the text cannot tell them apart.
            f"spelt[lazy]: TEXT {json.dumps(CALL_OPENS)}",
        ]

    def _mark(self, mark: str) -> str:
        """How the grammar names a mark: as a token, where the vocabulary has one, or as words."""
        number = self._decoder.tokenizer.get_vocab().get(mark)
        special = number is not None and self._tokenizer.is_special_token(number)
        return mark if special else json.dumps(mark)

    @cached_property
    def _tokenizer(self) -> Any:
        decoder = self._decoder
        return LLTokenizer(
            decoder.tokenizer_json(),
            n_vocab=decoder.network.vocabulary,
            eos_token=sorted(decoder.end_ids),
        )

    def _guide(self, grammar: str) -> Guide:
        limits = LLParserLimits(verbose_errors=False)
        matcher = LLMatcher(
            self._tokenizer, "%llguidance {}\n" + grammar, log_level=0, limits=limits
        )
        if matcher.is_error():
            raise SchemaError(
                "expected a JSON schema that can be enforced while writing, but "
                f"{_reason(matcher.get_error())}; change or leave out that part of the schema"
            )
        return Guide(matcher, self._decoder.network.vocabulary)


def _json(schema: Mapping[str, Any]) -> str:
    try:
        return "%json " + json.dumps({**schema, "x-guidance": _LAYOUT})
    except RecursionError:
        raise SchemaError("expected a JSON schema of fewer levels; make it flatter") from None


def _reason(error: str) -> str:
    """What the compiler says, without the grammar that it repeats."""
    lines = [line.strip() for line in error.splitlines() if line.strip()]
    told = [line for line in lines[1:] if line.startswith("error:")]
    return " ".join([*lines[:1], *told])[:300].rstrip(".") or "it gives no reason"
