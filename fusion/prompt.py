"""Puts conversation turns and images into the chat template, as embeddings for the decoder."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from fusion.decoder import Decoder, EmbeddedPrompt
from fusion.errors import FusionError

#: Tokens that vocabularies keep for images, the first that exists is the placeholder.
_IMAGE_TOKENS = ("<|image_pad|>", "<image>", "<|image|>", "<image_soft_token>")
# Marks an image's place while the template is rendered: private-use characters, which are removed
# from everything a person said.
_MARK = "\ue0f0"


@dataclass(frozen=True)
class Turn:
    """One message: texts and images (soft tokens (k, hidden)) in the order they are shown.

    `calls` are the functions that an assistant's message called, each with `name` and `arguments`
    (a mapping); a message of the role tool is what one of them returned.
    """

    role: Literal["system", "user", "assistant", "tool"]
    parts: tuple[str | Tensor, ...]
    calls: tuple[Mapping[str, Any], ...] = ()


def inject(
    decoder: Decoder, input_ids: Sequence[int], placeholder: int, images: Sequence[Tensor]
) -> EmbeddedPrompt:
    """Embed `input_ids` and put the images' soft tokens where `placeholder` stands, in order.

    FusionError, naming both counts, if placeholders and soft tokens are not equally many, and if a
    soft token's width is not the model's.
    """
    ids = torch.tensor(list(input_ids), dtype=torch.long, device=decoder.device)
    places = ids == placeholder
    for image in images:
        if image.ndim != 2 or image.shape[1] != decoder.hidden_size:
            raise FusionError(
                f"expected soft tokens of shape (k, {decoder.hidden_size}) for {decoder.name}, "
                f"but got {tuple(image.shape)}; use an adapter made for that language model"
            )
    wanted, given = int(places.sum()), sum(image.shape[0] for image in images)
    if wanted != given:
        raise FusionError(
            f"expected one soft token for each of {wanted} image placeholders in the prompt, "
            f"but got {given}; the prompt and the images do not belong together"
        )
    rows = decoder.embed(ids).clone()
    if images:
        rows[places] = torch.cat(list(images)).to(rows)
    return EmbeddedPrompt(ids, rows)


class PromptBuilder:
    """Renders turns with a decoder's chat template and embeds the result."""

    def __init__(self, decoder: Decoder) -> None:
        """FusionError if the model has no chat template."""
        if not decoder.tokenizer.chat_template:
            raise FusionError(
                f"expected a chat template with {decoder.name}, but it has none; "
                "use an instruction-tuned model"
            )
        self._decoder = decoder
        vocabulary = decoder.tokenizer.get_vocab()
        self._image_id: int | None = next(
            (vocabulary[token] for token in _IMAGE_TOKENS if token in vocabulary), None
        )
        special = sorted(decoder.tokenizer.get_added_vocab(), key=len, reverse=True)
        self._forbidden = re.compile("|".join([_MARK, *map(re.escape, special)]))

    def build(
        self,
        turns: Sequence[Turn],
        *,
        open_answer: bool = True,
        tools: Sequence[Mapping[str, Any]] = (),
    ) -> EmbeddedPrompt:
        """The prompt for `turns`, ending where the answer starts (`open_answer`).

        `tools` are functions with `name`, `description` and `parameters` (JSON schema); FusionError
        if the model's template has no place for them. Control tokens inside a turn's text (such as
        an end-of-turn mark that somebody dictates) are taken out, so that words cannot pose as
        structure.
        """
        images = [part for turn in turns for part in turn.parts if isinstance(part, Tensor)]
        text: str = self._decoder.tokenizer.apply_chat_template(
            [self._message(turn) for turn in turns],
            tokenize=False,
            add_generation_prompt=open_answer,
            **self._offer(tools),
        )
        return self._embed(text.split(_MARK), images)

    def prefix(self, system: str) -> EmbeddedPrompt:
        """The part that every conversation with this system prompt starts with, for a cache."""
        first, second = (
            self.build((Turn("system", (system,)), Turn("user", (text,)))) for text in ("a", "1")
        )
        pairs = zip(first.input_ids.tolist(), second.input_ids.tolist(), strict=False)
        shared = next((i for i, (a, b) in enumerate(pairs) if a != b), len(first))
        return EmbeddedPrompt(first.input_ids[:shared], first.embeddings[:shared])

    def _offer(self, tools: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """The template's argument for tools."""
        if not tools:
            return {}
        if "<tool_call>" not in str(self._decoder.tokenizer.chat_template):
            raise FusionError(
                f"expected a chat template with <tool_call> to offer tools to {self._decoder.name},"
                " but it has none; use a model such as Qwen2.5-Instruct, or no tools"
            )
        return {"tools": [{"type": "function", "function": self._cleaned(tool)} for tool in tools]}

    def _message(self, turn: Turn) -> dict[str, Any]:
        message: dict[str, Any] = {"role": turn.role, "content": self._content(turn)}
        if turn.calls:
            message["tool_calls"] = [
                {"type": "function", "function": self._cleaned(call)} for call in turn.calls
            ]
        return message

    def _cleaned(self, value: Any) -> Any:
        """The same JSON value, without control tokens in any of its texts."""
        if isinstance(value, str):
            return self._forbidden.sub(" ", value)
        if isinstance(value, Mapping):
            return {self._cleaned(key): self._cleaned(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self._cleaned(item) for item in value]
        return value

    def _content(self, turn: Turn) -> str:
        parts = (
            _MARK if isinstance(part, Tensor) else self._forbidden.sub(" ", part)
            for part in turn.parts
        )
        return "".join(parts)

    def _embed(self, texts: list[str], images: list[Tensor]) -> EmbeddedPrompt:
        """Tokenise the texts between the images apart, so that each image stays whole."""
        if len(texts) != len(images) + 1:
            raise FusionError(
                f"expected the chat template to show {len(images)} images once each, but it has "
                f"{len(texts) - 1} places; use another template"
            )
        pieces = [self._decoder.token_ids(text) for text in texts]
        placeholder = self._placeholder({token for piece in pieces for token in piece})
        ids = list(pieces[0])
        for image, piece in zip(images, pieces[1:], strict=True):
            ids += [placeholder] * image.shape[0] + piece
        return inject(self._decoder, ids, placeholder, images)

    def _placeholder(self, used: set[int]) -> int:
        """The vocabulary's image token, or else any id that the text does not use."""
        if self._image_id is not None:
            return self._image_id
        count = self._decoder.network.vocabulary
        return next(token for token in range(count - 1, -1, -1) if token not in used)
