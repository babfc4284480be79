"""Builds the tokenizer of a GGUF model from the vocabulary and merges in its header."""

from __future__ import annotations

import json
from pathlib import Path

from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
)

from fusion.errors import FusionError
from fusion.gguf_file import GgufFile

# How each family cuts text before merging (the `tokenizer.ggml.pre` field); the patterns are those
# of the families' own tokenizer files.
_CUTS = {
    "qwen2": (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
        r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    ),
    "llama-bpe": (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
        r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    ),
}
_CONTROL, _USER_DEFINED = 3, 4


def write_tokenizer(file: GgufFile, folder: Path) -> None:
    """Write tokenizer.json and tokenizer_config.json (with the chat template) into `folder`.

    FusionError where the model's tokenizer is not byte-level BPE of a known family.
    """
    cut = _CUTS.get(file.text("tokenizer.ggml.pre"))
    if file.text("tokenizer.ggml.model") != "gpt2" or cut is None:
        raise FusionError(
            f"expected a byte-level BPE tokenizer ({' or '.join(sorted(_CUTS))}), but "
            f"{file.path.name} has {file.text('tokenizer.ggml.model')!r} "
            f"{file.text('tokenizer.ggml.pre')!r}; use a transformers folder for that model"
        )
    tokens = [str(token) for token in file.items("tokenizer.ggml.tokens")]
    vocabulary = {token: i for i, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocabulary, _merges(file, vocabulary)))
    if file.text("tokenizer.ggml.pre") == "qwen2":
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(cut), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    tokenizer.decoder = decoders.ByteLevel()
    _add_special(file, tokenizer, tokens)
    tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    config = json.dumps(_tokenizer_config(file, tokens), indent=2, ensure_ascii=False)
    (folder / "tokenizer_config.json").write_text(config + "\n", "utf-8")


def _merges(file: GgufFile, vocabulary: dict[str, int]) -> list[tuple[str, str]]:
    pairs = [str(merge).split(" ") for merge in file.items("tokenizer.ggml.merges")]
    if wrong := [p for p in pairs if len(p) != 2 or p[0] + p[1] not in vocabulary]:
        raise FusionError(
            f"expected merges of two pieces into a token, but {file.path.name} has {wrong[0]}; "
            "fetch the file again"
        )
    return [(first, second) for first, second in pairs]


def _add_special(file: GgufFile, tokenizer: Tokenizer, tokens: list[str]) -> None:
    kinds = file.items("tokenizer.ggml.token_type")
    if len(kinds) != len(tokens):
        raise FusionError(
            f"expected a type for each of {len(tokens)} tokens, but {file.path.name} has "
            f"{len(kinds)}; fetch the file again"
        )

    def of_kind(wanted: int, special: bool) -> list[AddedToken]:
        return [
            AddedToken(token, normalized=False, special=special)
            for token, kind in zip(tokens, kinds, strict=True)
            if kind == wanted
        ]

    tokenizer.add_special_tokens(of_kind(_CONTROL, True))
    tokenizer.add_tokens(of_kind(_USER_DEFINED, False))


def _tokenizer_config(file: GgufFile, tokens: list[str]) -> dict[str, object]:
    config: dict[str, object] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
        "model_max_length": int(file.number(f"{file.text('general.architecture')}.context_length")),
    }
    for key, name in (("bos", "bos_token"), ("eos", "eos_token"), ("padding", "pad_token")):
        if (field := f"tokenizer.ggml.{key}_token_id") in file.fields:
            config[name] = tokens[int(file.number(field))]
    if template := file.text("tokenizer.chat_template"):
        config["chat_template"] = template
    return config
