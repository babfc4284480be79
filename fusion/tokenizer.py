"""A tokenizer with its chat template, without transformers, whose import takes a second."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer

from fusion.errors import FusionError


class ChatTokenizer:
    """A folder's tokenizer.json, and the chat template and marks of its tokenizer_config.json.

    Has the part of transformers' tokenizer interface that prompts and the decoder use, with the
    same results.
    """

    def __init__(self, folder: Path) -> None:
        """FusionError if the folder's files cannot be read."""
        try:
            pieces = (folder / "tokenizer.json").read_text("utf-8")
            told = json.loads((folder / "tokenizer_config.json").read_text("utf-8"))
            apart = folder / "chat_template.jinja"  # newer folders keep the template by itself
            template = apart.read_text("utf-8") if apart.is_file() else told.get("chat_template")
        except (OSError, ValueError) as problem:
            raise FusionError(f"expected a tokenizer in {folder}, but {problem}") from None
        self._tokenizer: Any = Tokenizer.from_str(pieces)
        self.chat_template: str | None = template
        self._marks = {
            name: mark["content"] if isinstance(mark, dict) else mark
            for name in ("bos_token", "eos_token")
            if (mark := told.get(name)) is not None
        }

    @property
    def backend_tokenizer(self) -> Any:
        """The tokenizer itself, of the tokenizers library."""
        return self._tokenizer

    @property
    def eos_token_id(self) -> int | None:
        """The id of the mark that ends a text."""
        mark = self._marks.get("eos_token")
        number: int | None = self._tokenizer.token_to_id(mark) if mark is not None else None
        return number

    def __call__(self, text: str, add_special_tokens: bool = True) -> dict[str, list[int]]:
        """`input_ids` of `text`."""
        coded = self._tokenizer.encode(text, add_special_tokens=add_special_tokens)
        return {"input_ids": list(coded.ids)}

    def decode(
        self,
        ids: Sequence[int],
        skip_special_tokens: bool = False,
        clean_up_tokenization_spaces: bool = False,
    ) -> str:
        """The text of `ids`, exactly as the tokens spell it."""
        if clean_up_tokenization_spaces:
            raise FusionError("expected clean_up_tokenization_spaces=False, the only one here")
        text: str = self._tokenizer.decode(list(ids), skip_special_tokens=skip_special_tokens)
        return text

    def get_vocab(self) -> dict[str, int]:
        """Every token and its id."""
        vocabulary: dict[str, int] = self._tokenizer.get_vocab(with_added_tokens=True)
        return vocabulary

    def get_added_vocab(self) -> dict[str, int]:
        """The marks that are tokens of their own, and their ids."""
        added = self._tokenizer.get_added_tokens_decoder()
        return {token.content: number for number, token in sorted(added.items())}

    def apply_chat_template(
        self,
        messages: Sequence[Mapping[str, Any]],
        tokenize: bool = False,
        add_generation_prompt: bool = False,
        tools: Sequence[Mapping[str, Any]] | None = None,
    ) -> str:
        """The turns as the model was taught to read them; only as text (`tokenize` False)."""
        if tokenize or self.chat_template is None:
            raise FusionError("expected a chat template to render as text (tokenize=False)")
        # The environment of transformers' templates: whitespace rules, and no way out of the data.
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
        )
        environment.globals["raise_exception"] = _raise
        environment.filters["tojson"] = _to_json
        try:
            return environment.from_string(self.chat_template).render(
                messages=messages,
                tools=tools,
                documents=None,
                add_generation_prompt=add_generation_prompt,
                **self._marks,
            )
        except TemplateError as problem:
            raise FusionError(
                f"expected turns that the chat template takes, but {problem}"
            ) from None


def _raise(message: str) -> None:
    raise TemplateError(message)


def _to_json(value: object, **options: Any) -> str:
    # unlike jinja2's own filter, without escapes for HTML
    return json.dumps(value, ensure_ascii=False, **options)
