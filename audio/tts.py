"""Text to speech: clauses, words, phonemes, latents, sound, one piece at a time."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from audio.errors import AudioError
from audio.lexicon import Lexicon
from audio.onnx_weights import read_voice_weights
from audio.pcm import Sound
from audio.phonemes import Phonemizer
from audio.speech_text import SplitRules, split_clauses, verbalise
from audio.vits import Latents, Sampling, Vits
from audio.vocoder import Vocoder

_START, _END, _PAD = "^", "$", "_"
_SENTENCE_PAUSE_S = 0.20
_CLAUSE_PAUSE_S = 0.05
_SLOWEST, _FASTEST = 0.25, 4.0
_MAX_NOISE = 2.0
_SPLIT = SplitRules()
# Piper's voices recommend 0.667. On 59 sentences apart from the evaluation's, half of that brought
# whisper-base from 4.0 to 2.1 % word errors; less noise in the durations changed nothing.
_CLARITY = 0.5


class Phonemes(Protocol):
    """Anything that writes the IPA of verbalised text, marks kept."""

    def __call__(self, text: str) -> str:
        """IPA of the text; "" if it has no word."""
        ...


@dataclass(frozen=True)
class SpeakOptions:
    """How to read.

    rate: 1.0 is the voice's own pace, 2.0 twice as fast; noise_scale: how much the sound may vary,
    None for half of what the voice recommends, which is clearer; noise_w: how much the durations
    may, None for what it recommends; seed: the same seed, the same sound; None a fresh reading.

    Raises AudioError for a value out of range.
    """

    rate: float = 1.0
    noise_scale: float | None = None
    noise_w: float | None = None
    seed: int | None = None
    split: SplitRules = _SPLIT

    def __post_init__(self) -> None:
        if not _SLOWEST <= self.rate <= _FASTEST:
            raise AudioError(
                f"The rate of speech should be between {_SLOWEST} and {_FASTEST} but is "
                f"{self.rate}; 1.0 is the voice's own pace."
            )
        for noise in (self.noise_scale, self.noise_w):
            if noise is not None and not 0.0 <= noise <= _MAX_NOISE:
                raise AudioError(
                    f"noise_scale and noise_w should be between 0 and {_MAX_NOISE} but one is "
                    f"{noise}; leave them out for the voice's own."
                )


@dataclass(frozen=True)
class VoiceConfig:
    """What a Piper voice's .onnx.json says that is needed here."""

    sample_rate: int
    symbols: Mapping[str, tuple[int, ...]]
    noise_scale: float
    noise_w: float
    length_scale: float


@dataclass(frozen=True)
class Piece:
    """One spoken clause.

    text: as it was written; phonemes: as they were read; durations: samples of each phoneme id
    (start and end marks and the padding between phonemes included); pause: samples of silence at
    the start of the sound.
    """

    sound: Sound
    text: str
    phonemes: str
    durations: tuple[int, ...]
    pause: int


class Voice:
    """A loaded voice, shared by all who speak with it; it keeps nothing between calls."""

    def __init__(
        self, config: VoiceConfig, vits: Vits, vocoder: Vocoder, phonemes: Phonemes
    ) -> None:
        self.config = config
        self.vits = vits
        self.vocoder = vocoder
        self.phonemes = phonemes

    @classmethod
    def load(cls, folder: Path, *, device: str = "cpu", phonemes: Phonemes | None = None) -> Voice:
        """Load a Piper voice: one .onnx and its .onnx.json in `folder`.

        Raises AudioError if they are absent, damaged, or not an English single-speaker voice.
        """
        path = _voice_file(folder)
        config = read_config(path.with_name(path.name + ".json"))
        weights = read_voice_weights(path)
        vits, vocoder = Vits(weights), Vocoder(weights)
        if vits.latent != vocoder.latent:
            raise AudioError(
                f"{path}: the flow makes {vits.latent} channels but the vocoder expects "
                f"{vocoder.latent}; the file is damaged, fetch it again."
            )
        highest = max(max(ids) for ids in config.symbols.values())
        if highest >= vits.symbols:
            raise AudioError(
                f"{path}: its phoneme map goes up to {highest} but the voice knows only "
                f"{vits.symbols} symbols; fetch both files again."
            )
        spoken = phonemes or Phonemizer(Lexicon.load())
        return cls(config, vits.to(device), vocoder.to(device), spoken)

    @property
    def sample_rate(self) -> int:
        """Samples per second of everything this voice says."""
        return self.config.sample_rate

    def speak(self, text: str | Iterable[str], options: SpeakOptions | None = None) -> Sound:
        """The whole text as one sound: what `stream` yields, joined. Raises as `stream` does."""
        pieces = [sound.samples for sound in self.stream(text, options)]
        return Sound(np.concatenate(pieces), self.sample_rate)

    def stream(
        self, text: str | Iterable[str], options: SpeakOptions | None = None
    ) -> Iterator[Sound]:
        """Speak a text, or pieces of one as they arrive: one sound for each clause, in order.

        Raises AudioError if there is nothing in the text that can be spoken.
        """
        for piece in self.pieces(text, options):
            yield piece.sound

    def pieces(
        self, text: str | Iterable[str], options: SpeakOptions | None = None
    ) -> Iterator[Piece]:
        """As `stream`, with what was said and how long each phoneme lasted."""
        speaking = self.start(options)
        spoken = False
        for clause in split_clauses(text, speaking.options.split):
            piece = speaking.say(clause)
            if piece is not None:
                spoken = True
                yield piece
        if not spoken:
            raise AudioError(
                "The text to speak holds no word or number; give at least one that can be spoken."
            )

    def start(self, options: SpeakOptions | None = None) -> Speaking:
        """What belongs to one text that is spoken clause by clause; the caller holds it."""
        options = options or SpeakOptions()
        generator = torch.Generator()
        if options.seed is None:
            generator.seed()
        else:
            generator.manual_seed(options.seed)
        return Speaking(self, options, generator)

    def ids(self, phonemes: str) -> list[int]:
        """The voice's ids for an IPA text, padding between them; empty if it knows no phoneme.

        Symbols that the voice does not know are left out.
        """
        symbols = self.config.symbols
        known = [sign for sign in phonemes if sign in symbols]
        if not any(sign.isalpha() for sign in known):
            return []
        pad = symbols[_PAD]
        body = [number for sign in known for number in (*symbols[sign], *pad)]
        return [*symbols[_START], *pad, *body, *symbols[_END]]

    def _latents(
        self, ids: list[int], options: SpeakOptions, generator: torch.Generator
    ) -> Latents:
        own = self.config
        sampling = Sampling(
            noise_scale=own.noise_scale * _CLARITY
            if options.noise_scale is None
            else options.noise_scale,
            noise_w=own.noise_w if options.noise_w is None else options.noise_w,
            length_scale=own.length_scale / options.rate,
        )
        return self.vits.latents(ids, sampling, generator)

    def _say(self, clause: str, phonemes: str, latents: Latents, pause: int) -> Piece:
        samples: NDArray[np.float32] = self.vocoder(latents.z).cpu().numpy()
        quiet = np.zeros(pause, np.float32)
        return Piece(
            sound=Sound(np.concatenate((quiet, samples)), self.sample_rate),
            text=clause,
            phonemes=phonemes,
            durations=tuple(frames * self.vocoder.hop for frames in latents.durations),
            pause=pause,
        )


@dataclass
class Speaking:
    """One text on its way to sound: how it is read, and the pause that is due before more of it."""

    voice: Voice
    options: SpeakOptions
    generator: torch.Generator
    _pause: int = 0

    def say(self, clause: str) -> Piece | None:
        """The sound of the next clause, a pause before it; None if nothing in it can be spoken."""
        voice = self.voice
        phonemes = voice.phonemes(verbalise(clause))
        ids = voice.ids(phonemes)
        if not ids:
            return None
        latents = voice._latents(ids, self.options, self.generator)
        piece = voice._say(clause, phonemes, latents, self._pause)
        ends = phonemes.rstrip().endswith((".", "?", "!"))
        self._pause = round((_SENTENCE_PAUSE_S if ends else _CLAUSE_PAUSE_S) * voice.sample_rate)
        return piece


def _voice_file(folder: Path) -> Path:
    found = sorted(folder.glob("*.onnx")) if folder.is_dir() else []
    if len(found) != 1:
        raise AudioError(
            f"{folder} should be a folder with one voice (.onnx and .onnx.json) but holds "
            f"{len(found)}; run `voxsight models pull` or name another folder."
        )
    return found[0]


def read_config(path: Path) -> VoiceConfig:
    """Read a Piper voice's .onnx.json.

    Raises AudioError if it is absent, is no such file, or names another language or several
    speakers.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        config = VoiceConfig(
            sample_rate=int(data["audio"]["sample_rate"]),
            symbols={sign: tuple(map(int, ids)) for sign, ids in data["phoneme_id_map"].items()},
            noise_scale=float(data["inference"]["noise_scale"]),
            noise_w=float(data["inference"]["noise_w"]),
            length_scale=float(data["inference"]["length_scale"]),
        )
        language, speakers = str(data["espeak"]["voice"]), int(data.get("num_speakers", 1))
    except OSError as error:
        raise AudioError(
            f"The voice's settings {path} cannot be read ({type(error).__name__}); fetch the "
            f"voice again."
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise AudioError(
            f"{path} should be the settings of a Piper voice (.onnx.json) but is not "
            f"({type(error).__name__}: {error}); fetch the voice again."
        ) from error
    if not language.startswith("en") or speakers > 1:
        raise AudioError(
            f"{path}: an English voice with one speaker was expected, but this one speaks "
            f"{language!r} with {speakers} speakers; choose another."
        )
    missing = [sign for sign in (_START, _END, _PAD) if not config.symbols.get(sign)]
    if missing:
        raise AudioError(f"{path}: its phoneme map lacks {missing}; fetch the voice again.")
    return config
