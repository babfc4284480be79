"""The models of a dub in one process, each loaded when it is first needed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, cached_property
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from assistant.jobs.dub.options import DubOptions
from assistant.loading import Models

if TYPE_CHECKING:
    from assistant.jobs.dub.translate import Translator
    from assistant.jobs.dub.voices import DubVoice
    from audio.asr import Recogniser


class Tools:
    """Recogniser, translator and voices, as the options name them."""

    def __init__(self, models: Models, options: DubOptions) -> None:
        self.models, self.options = models, options
        self._voices: dict[str, DubVoice] = {}

    @property
    def recogniser(self) -> Recogniser:
        """Hears the original, and the dub again."""
        return self.models.recogniser

    @cached_property
    def translator(self) -> Translator:
        """The recogniser itself, or the model that the options name."""
        if self.options.translator is not None:
            return self._named_translator(self.options.translator)
        from assistant.jobs.dub.translate import WhisperTranslator
        from audio.lexicon import Lexicon

        name = Path(self.models.settings.recogniser).name
        return WhisperTranslator(self.recogniser, Lexicon.load().__contains__, name)

    def _named_translator(self, name: str) -> Translator:
        folder = self.models.folder(name)
        if not writes_text(folder):
            from assistant.jobs.dub.translate_text import TextTranslator

            return TextTranslator.load(folder, self.options.language)
        from assistant.jobs.dub.translate_chat import ChatTranslator

        models, settings = self.models, self.models.settings
        if name != settings.language_model:
            models = Models(settings.model_copy(update={"language_model": name}))
        label = Path(name).name
        return ChatTranslator(models.decoder, models.prompt_builder, self.options.language, label)

    def voice(self, name: str) -> DubVoice:
        """The voice of that name or in that folder."""
        if name not in self._voices:
            self._voices[name] = self._load_voice(name)
        return self._voices[name]

    def _load_voice(self, name: str) -> DubVoice:
        from assistant.jobs.dub.voices import PiperVoice, load_voice

        if name == self.models.settings.voice:
            return PiperVoice(self.models.voice, Path(name).name)
        return load_voice(self.models.folder(name))


def writes_text(folder: Path) -> bool:
    """Whether a folder holds a causal language model: a GGUF file, or one of transformers."""
    if any(folder.glob("*.gguf")):
        return True
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False  # the translator that is tried then tells what is wrong with it
    kinds = config.get("architectures") if isinstance(config, dict) else None
    return any(str(kind).endswith("ForCausalLM") for kind in kinds or ())


@cache
def model_key(folder: Path) -> str:
    """Says which model a folder holds, for the inputs of stages: its files' names and hashes."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    digest = sha256()
    for path in files:
        # Where the cache keeps a note of what it verified, that lies beside the model's files.
        if not path.name.startswith("."):
            digest.update(json.dumps([path.relative_to(folder).as_posix()]).encode())
            with path.open("rb") as file:
                while block := file.read(1 << 20):
                    digest.update(block)
    return digest.hexdigest()[:16]


@contextmanager
def one_thread() -> Iterator[None]:
    """PyTorch with one thread: sums are added in the same order on every machine and engine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
