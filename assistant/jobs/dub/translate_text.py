"""Translate by text: Marian, M2M100 and NLLB models of transformers, for any target language."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from assistant.errors import ConfigError
from assistant.jobs.dub.lines import Line
from assistant.jobs.dub.track_languages import three_letters
from assistant.jobs.dub.translate import most_tokens
from audio.asr_decode import repeats_itself
from audio.pcm import Samples

_NLLB_CODE = re.compile(r"[a-z]{3}_[A-Z][a-z]{3}")
# NLLB names one language of a group where ISO 639-2 names the group.
_PAIRS = str.split(
    """ar arb fa pes az azj sw swh lv lvs ne npi uz uzn ms zsm mg plt mn khk ps pbt sq als yi
ydd no nob"""
)
_NLLB_OTHER = MappingProxyType(dict(zip(_PAIRS[::2], _PAIRS[1::2], strict=True)))


@dataclass(frozen=True)
class TextOptions:
    """beams: of the search; wordings: how many translations of a line it gives at most."""

    beams: int = 5
    wordings: int = 5

    def __post_init__(self) -> None:
        if not 1 <= self.wordings <= self.beams:
            raise ConfigError(
                "Expected as many beams as wordings or more, and 1 or more, got "
                f"{self.beams} and {self.wordings}."
            )


DEFAULT_OPTIONS = TextOptions()


class TextTranslator:
    """A sequence-to-sequence model that translates a line's text.

    These models were trained on single sentences, so a line is translated by itself: given its
    neighbours, they would translate those too, and nothing would tell where the line begins.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        target: str,
        name: str,
        options: TextOptions = DEFAULT_OPTIONS,
    ) -> None:
        """Translate into ``target``, a code such as "de".

        Raises ConfigError for a kind of model that is not known, or does not know the language.
        """
        self._model, self._tokenizer = model.eval(), tokenizer
        self.target, self.name, self.options = target, name, options
        self._codes = _codes_of(model, tokenizer, name)
        self._codes.into(target)

    @classmethod
    def load(
        cls, source: Path | str, target: str, options: TextOptions = DEFAULT_OPTIONS
    ) -> "TextTranslator":
        """Load a local folder (a Path), or a model of the hub by its name (a str).

        Raises ConfigError for what cannot be loaded.
        """
        from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

        local = isinstance(source, Path)
        if local and not (Path(source) / "config.json").is_file():
            raise ConfigError(f"Expected a translation model in {source}, found no config.json.")
        try:
            tokenizer = AutoTokenizer.from_pretrained(source, local_files_only=local)
            model = AutoModelForSeq2SeqLM.from_pretrained(source, local_files_only=local)
        except ImportError as error:
            lacks = "sentencepiece" if "sentencepiece" in str(error).lower() else "a package"
            raise ConfigError(
                f"The translation model {source} needs {lacks}; run `pip install sentencepiece`."
            ) from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigError(
                f"Cannot load the translation model {source}: {str(error).splitlines()[0]}"
            ) from None
        return cls(model, tokenizer, target, Path(source).name, options)

    def __call__(
        self,
        line: Line,
        sound: Samples,  # noqa: ARG002
        before: Sequence[Line],  # noqa: ARG002
        after: Sequence[Line],  # noqa: ARG002
    ) -> tuple[str, ...]:
        """Translations of the line's text; a line that is in the target language is left as is.

        Raises ConfigError for a language that the model does not know.
        """
        if line.language == self.target:
            return (line.original,)
        texts = self.translations(line.original, line.language)
        return tuple(dict.fromkeys(text for text in texts if text and not repeats_itself(text)))

    def translations(self, text: str, language: str) -> list[str]:
        """The beams' texts, the likeliest first; the same in every run."""
        import torch

        prefix, extra = self._codes.out_of(language), self._codes.into(self.target)
        inputs = self._tokenizer(prefix + text, return_tensors="pt", truncation=True)
        with torch.inference_mode():
            made = self._model.generate(
                **inputs,
                **extra,
                num_beams=self.options.beams,
                num_return_sequences=self.options.wordings,
                do_sample=False,
                max_length=None,
                max_new_tokens=most_tokens(inputs["input_ids"].shape[1]),
            )
        texts: list[str] = self._tokenizer.batch_decode(made, skip_special_tokens=True)
        return [text.strip() for text in texts]


class _Codes:
    """How one kind of model is told the languages; this one knows only its own pair (Marian)."""

    def __init__(self, tokenizer: Any, name: str) -> None:
        self._tokenizer, self._name = tokenizer, name
        self._prefix = ""

    def out_of(self, language: str) -> str:
        """Set the language of the text; gives what the text must begin with."""
        own = getattr(self._tokenizer, "source_lang", None)
        if own and own not in (language, three_letters(language)) and len(own) <= 3:
            raise self._refused(language, [own])
        return self._prefix

    def into(self, target: str) -> dict[str, Any]:
        """What ``generate`` must be told to write ``target``."""
        several = list(getattr(self._tokenizer, "supported_language_codes", ()))
        if several:
            codes = [f">>{code}<<" for code in (target, three_letters(target))]
            found = [code for code in codes if code in several]
            if not found:
                raise self._refused(target, several)
            self._prefix = f"{found[0]} "
        else:
            own = getattr(self._tokenizer, "target_lang", None)
            if own and own not in (target, three_letters(target)) and len(own) <= 3:
                raise self._refused(target, [own])
        return {}

    def _refused(self, language: str, known: Sequence[str]) -> ConfigError:
        some = ", ".join(sorted(known)[:20])
        return ConfigError(
            f"The translation model {self._name} does not know the language {language!r}; "
            f"it knows {some}{' ...' if len(known) > 20 else ''}."
        )


class _M2m(_Codes):
    """Codes such as "de", as tokens of the text and of the translation (M2M100)."""

    def out_of(self, language: str) -> str:
        self._tokenizer.src_lang = self._code(language)
        return ""

    def into(self, target: str) -> dict[str, Any]:
        return {"forced_bos_token_id": self._tokenizer.get_lang_id(self._code(target))}

    def _code(self, language: str) -> str:
        known = list(self._tokenizer.lang_code_to_id)
        if language not in known:
            raise self._refused(language, known)
        return language


class _Nllb(_Codes):
    """Codes such as "deu_Latn"; of several scripts the model's first is taken (NLLB)."""

    def out_of(self, language: str) -> str:
        self._tokenizer.src_lang = self._code(language)
        return ""

    def into(self, target: str) -> dict[str, Any]:
        token = self._tokenizer.convert_tokens_to_ids(self._code(target))
        return {"forced_bos_token_id": token}

    def _code(self, language: str) -> str:
        known = _nllb_codes(self._tokenizer)
        three = _NLLB_OTHER.get(language) or three_letters(language)
        found = [code for code in known if language == code or code[:3] == three]
        if not found:
            raise self._refused(language, known)
        return found[0]


def _nllb_codes(tokenizer: Any) -> list[str]:
    return [token for token in tokenizer.all_special_tokens if _NLLB_CODE.fullmatch(token)]


def _codes_of(model: Any, tokenizer: Any, name: str) -> _Codes:
    kind = model.config.model_type
    if kind == "marian":
        return _Codes(tokenizer, name)
    if kind == "m2m_100":
        return (_Nllb if _nllb_codes(tokenizer) else _M2m)(tokenizer, name)
    raise ConfigError(
        f"Expected a Marian, M2M100 or NLLB translation model, but {name} is of the kind {kind!r}."
    )
