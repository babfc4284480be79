"""Loads the models that the settings name, each once, whoever asks first."""

import threading
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, TypeVar

from assistant.assets import asset
from assistant.config import Settings
from assistant.derived import derived_folder
from assistant.errors import ConfigError
from assistant.models import ModelStore, PullProgress

if TYPE_CHECKING:
    from assistant.prompts import Prompts
    from audio.asr import Recogniser
    from audio.tts import Voice
    from fusion.adapter import Adapter
    from fusion.decoder import Decoder, KVCache
    from fusion.prompt import PromptBuilder
    from vision.encoders import ImageEncoder

T = TypeVar("T")


class Models:
    """The models of one process, loaded on first use and shared by all sessions.

    Args:
        settings: which models, how many threads, where the cache is.
        progress: told of downloads.
        remark: told in words of work that takes more than a moment.
    """

    def __init__(
        self,
        settings: Settings,
        progress: PullProgress | None = None,
        remark: Callable[[str], None] | None = None,
    ) -> None:
        self.settings = settings
        self.store = ModelStore(settings)
        self._progress = progress
        self._remark = remark or _silent
        self._lock = threading.RLock()

    def folder(self, name: str) -> Path:
        """Folder of a verified model; see ``ModelStore.folder``."""
        return self.store.folder(name, self._progress)

    def fetch_all(self) -> None:
        """Downloads whatever the settings name and the cache lacks, and converts it."""
        chosen = self.settings
        for name in (chosen.recogniser, chosen.image_encoder, chosen.voice):
            self.folder(name)
        self.language_model_folder()

    def load_all(self) -> None:
        """Loads every model, so that the first question does not wait for it."""
        _ = (self.recogniser, self.encoder, self.adapter, self.prompt_cache(), self.voice)

    @property
    def recogniser(self) -> "Recogniser":
        """The speech recogniser."""
        return self._locked(lambda: self._recogniser)

    @property
    def voice(self) -> "Voice":
        """The voice that speaks the answers."""
        return self._locked(lambda: self._voice)

    @property
    def encoder(self) -> "ImageEncoder":
        """The image encoder."""
        return self._locked(lambda: self._encoder)

    @property
    def decoder(self) -> "Decoder":
        """The language model."""
        return self._locked(lambda: self._decoder)

    @property
    def adapter(self) -> "Adapter":
        """What turns image features into soft tokens of the language model."""
        return self._locked(lambda: self._adapter)

    @cached_property
    def prompts(self) -> "Prompts":
        """The words around a question."""
        from assistant.prompts import load_prompts

        return load_prompts()

    @property
    def prompt_builder(self) -> "PromptBuilder":
        """The language model's chat template."""
        return self._locked(lambda: self._prompt_builder)

    def prompt_cache(self) -> "KVCache":
        """A new cache that already holds the system prompt."""
        return self._locked(lambda: self._prompt_cache).fork()

    def language_model_folder(self) -> Path:
        """The language model's folder to load; what must be made from another is made, once.

        A GGUF file is converted, and it or a transformers folder is quantised if the settings ask.
        """
        folder = self.folder(self.settings.language_model)
        chosen = self.settings.quantization
        found = sorted(folder.glob("*.gguf"))
        if len(found) > 1:
            raise ConfigError(
                f"Expected one GGUF file in {folder}, found {len(found)}; keep the one to be used."
            )
        if found:
            return self._converted(found[0], quantised=chosen != "none")
        return self._quantised(folder) if chosen == "int8" else folder

    def _converted(self, source: Path, *, quantised: bool) -> Path:
        def make(target: Path) -> None:
            from fusion.gguf_convert import convert_gguf
            from fusion.quantize_file import quantise

            self._remark(f"Converting {source.name} into the cache, once; this takes some seconds.")
            if not quantised:
                convert_gguf(source, target)
                return
            with TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as scratch:
                quantise(convert_gguf(source, Path(scratch) / "whole"), target)

        return derived_folder(self._derived_root(quantised), source, make)

    def _quantised(self, folder: Path) -> Path:
        def make(target: Path) -> None:
            from fusion.quantize_file import quantise

            self._remark(f"Quantising {folder.name} into the cache, once; this takes some seconds.")
            quantise(folder, target)

        weights = sorted(folder.glob("*.safetensors"))
        if not weights:
            raise ConfigError(
                f"Expected weights to quantise in {folder}, but it holds no .safetensors file; "
                "give a GGUF file or a folder in transformers' format."
            )
        return derived_folder(self._derived_root(True), weights[0], make)

    def _derived_root(self, quantised: bool) -> Path:
        from fusion.quantize_file import FORMAT

        return self.settings.cache_dir / (f"int8-{FORMAT}" if quantised else "converted")

    def _locked(self, get: Callable[[], T]) -> T:
        # cached_property alone would let two threads load the same model twice.
        with self._lock:
            return get()

    @cached_property
    def _recogniser(self) -> "Recogniser":
        folder = self.folder(self.settings.recogniser)
        from audio.asr import Recogniser
        from audio.features.dispatch import prepare

        prepare(self._remark)
        return Recogniser.load(folder, threads=self.settings.threads)

    @cached_property
    def _voice(self) -> "Voice":
        folder = self.folder(self.settings.voice)
        from audio.tts import Voice

        if self.settings.phonemizer == "espeak":
            from audio.espeak import EspeakPhonemizer

            return Voice.load(folder, phonemes=EspeakPhonemizer())
        return Voice.load(folder)

    @cached_property
    def _encoder(self) -> "ImageEncoder":
        folder = self.folder(self.settings.image_encoder)
        from vision.encoders import EncoderOptions, load_encoder

        return load_encoder(folder, EncoderOptions(classes=asset("imagenet_classes.tsv")))

    @cached_property
    def _decoder(self) -> "Decoder":
        folder = self.language_model_folder()
        from fusion.decoder import Decoder

        return Decoder.load(
            folder, threads=self.settings.threads, name=Path(self.settings.language_model).name
        )

    @cached_property
    def _prompt_builder(self) -> "PromptBuilder":
        from fusion.prompt import PromptBuilder

        return PromptBuilder(self.decoder)

    @cached_property
    def _prompt_cache(self) -> "KVCache":
        cache = self.decoder.new_cache()
        self.decoder.prefill(self.prompt_builder.prefix(self.prompts.system), cache)
        return cache

    @cached_property
    def _adapter(self) -> "Adapter":
        from fusion.adapters import build_dictionary, load_adapter
        from fusion.projector import MlpProjector

        chosen = self.settings.adapter
        if chosen.startswith("llava:"):
            return MlpProjector.from_llava(Path(chosen.removeprefix("llava:")), self.encoder.name)
        shipped = self._shipped_adapter() if chosen == "auto" else None
        if chosen == "dictionary" or (chosen == "auto" and shipped is None):
            return build_dictionary(self.encoder, self.decoder, self._vocabulary())
        return load_adapter(shipped or Path(chosen), self.encoder, self.decoder)

    def _vocabulary(self) -> tuple[str, ...] | None:
        """The words that a dictionary may use; None for all that the encoder knows by itself."""
        from vision.classes import read_class_names
        from vision.encoders import EfficientNetLite0

        file = self.settings.vocabulary
        if file is not None:
            return _read_words(file)
        if isinstance(self.encoder, EfficientNetLite0):
            return None
        # A CLIP encoder has directions for any word, but no list of its own.
        return tuple(dict.fromkeys(c.name for c in read_class_names(asset("imagenet_classes.tsv"))))

    def _shipped_adapter(self) -> Path | None:
        """The shipped adapter made for exactly the two models that are loaded, if there is one."""
        from fusion.adapter_file import read_adapter

        pair = (self.encoder.name, self.decoder.name)
        for path in sorted(asset("adapters").glob("*.safetensors")):
            header, _ = read_adapter(path)
            if (header.encoder, header.language_model) == pair:
                return path
        return None


def _read_words(file: Path) -> tuple[str, ...]:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"Cannot read the vocabulary {file}: {error}.") from None
    words = tuple(dict.fromkeys(line.strip() for line in lines if line.strip()))
    if not words:
        raise ConfigError(f"Expected one word a line in the vocabulary {file}, but it is empty.")
    return words


def _silent(_: Any) -> None:
    return None
