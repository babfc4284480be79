"""Text to speech: clauses, words, phonemes, latents, sound, one piece at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from audio.errors import AudioError
from audio.lexicon import Lexicon
from audio.onnx_weights import read_voice_weights
from audio.pcm import Sound
from audio.phonemes import Phonemizer
from audio.speech_text import SplitRules, split_clauses, verbalise
from audio.spoken_words import SpokenWord, sign_edges, time_words
from audio.vits import Latents, Sampling, Vits
from audio.vocoder import Vocoder
from audio.vocoder_graph import GraphVocoder
from audio.vocoder_stream import ChunkPlan, LocalLayer, chunks
from audio.voice_config import END, PAD, START, VoiceConfig, read_config

_SENTENCE_PAUSE_S = 0.20
_CLAUSE_PAUSE_S = 0.05
_SLOWEST, _FASTEST = 0.25, 4.0
_MAX_NOISE = 2.0
_SPLIT = SplitRules()
_PLAN = ChunkPlan()
# Piper's voices recommend 0.667. On 59 sentences apart from the evaluation's, half of that brought
# whisper-base from 4.0 to 2.1 % word errors; less noise in the durations changed nothing.
_CLARITY = 0.5


Precision = Literal["float32", "bfloat16", "float16"]
_PRECISIONS: Mapping[Precision, torch.dtype] = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


class Phonemes(Protocol):
    """Anything that writes the IPA of verbalised text, marks kept."""

    def __call__(self, text: str) -> str:
        """IPA of the text; "" if it has no word."""
        ...


@dataclass(frozen=True)
class SpeakOptions:
    """How to read.

    rate: 1.0 is the voice's own pace, 2.0 twice as fast, about where a voice can go no faster, as
    each phoneme keeps a frame; noise_scale: how much the sound may vary,
    None for half of what the voice recommends, which is clearer; noise_w: how much the durations
    may, None for what it recommends; seed: the same seed, the same sound; None a fresh reading;
    plan: how much of a clause is made at a time.

    Raises AudioError for a value out of range.
    """

    rate: float = 1.0
    noise_scale: float | None = None
    noise_w: float | None = None
    seed: int | None = None
    split: SplitRules = _SPLIT
    plan: ChunkPlan = _PLAN

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
class Piece:
    """One spoken clause.

    text: as it was written; phonemes: as they were read; durations: samples of each phoneme id
    (start and end marks and the padding between phonemes included); pause: samples of silence at
    the start of the sound; words: as they were written, with their place in the sound.
    """

    sound: Sound
    text: str
    phonemes: str
    durations: tuple[int, ...]
    pause: int
    words: tuple[SpokenWord, ...] = ()


@dataclass(frozen=True)
class SpokenChunk:
    """The next part of a clause's sound.

    samples: (n,) float32; start: where they lie in the sound of the clause, the pause before it
    included; words: those that begin here, with their place in the sound of the clause.
    """

    samples: NDArray[np.float32]
    start: int
    words: tuple[SpokenWord, ...]


class Voice:
    """A loaded voice, shared by all who speak with it; it keeps nothing between calls."""

    def __init__(
        self, config: VoiceConfig, vits: Vits, vocoder: Vocoder, phonemes: Phonemes
    ) -> None:
        self.config = config
        self.vits = vits
        self.vocoder = vocoder
        self.phonemes = phonemes
        on_gpu = vocoder.pre.weight.is_cuda
        self._graphs = GraphVocoder(vocoder) if on_gpu else None

    @classmethod
    def load(
        cls,
        folder: Path,
        *,
        device: str = "cpu",
        phonemes: Phonemes | None = None,
        precision: Precision | None = None,
    ) -> Voice:
        """Load a Piper voice: one .onnx and its .onnx.json in `folder`.

        precision: of the vocoder; float16 on a GPU and float32 elsewhere, unless told otherwise.
        bfloat16 on a processor that has products in it (AVX512-BF16, AMX) takes little more than
        half the vocoder's time; see `Vocoder` for what it changes.

        Raises AudioError if they are absent, damaged, or not an English single-speaker voice, or
        if the processor cannot compute in that precision.
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
        vocoder.to(device, _dtype(precision, device))
        return cls(config, vits.to(device), vocoder, spoken)

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
        pad = symbols[PAD]
        body = [number for sign in known for number in (*symbols[sign], *pad)]
        return [*symbols[START], *pad, *body, *symbols[END]]

    def _sampling(self, options: SpeakOptions) -> Sampling:
        own = self.config
        return Sampling(
            noise_scale=own.noise_scale * _CLARITY
            if options.noise_scale is None
            else options.noise_scale,
            noise_w=own.noise_w if options.noise_w is None else options.noise_w,
            length_scale=own.length_scale,
            pace=options.rate,
        )

    def _words(
        self, clause: str, spoken: str, phonemes: str, durations: tuple[int, ...], pause: int
    ) -> tuple[SpokenWord, ...]:
        symbols = self.config.symbols
        pad = len(symbols[PAD])
        widths = [len(symbols[sign]) + pad if sign in symbols else 0 for sign in phonemes]
        edges = sign_edges(durations, widths, len(symbols[START]) + pad)
        return time_words(clause, spoken, phonemes, edges, pause, pause + sum(durations))

    def _sounds(self, prior: Latents, plan: ChunkPlan) -> Iterator[NDArray[np.float32]]:
        """The samples for latents before the flow: flow and vocoder go through them together."""
        if self._graphs is not None:
            flow = ChunkPlan(prior.z.shape[2], 1.0, prior.z.shape[2])
            z = torch.cat(list(chunks(self.vits.flow_steps, prior.z[0].mT, flow))).mT[None]
            parts = self._graphs.chunks(z, plan)
        else:
            layers: list[LocalLayer] = [*self.vits.flow_steps, *self.vocoder.layers]
            parts = (part[:, 0].float() for part in chunks(layers, prior.z[0].mT, plan))
        for part in parts:
            yield part.cpu().numpy()


@dataclass(frozen=True)
class Reading:
    """A clause whose words have their times and whose sound is still to be made.

    Fields as in `Piece`.
    """

    text: str
    phonemes: str
    durations: tuple[int, ...]
    pause: int
    words: tuple[SpokenWord, ...]
    _voice: Voice = field(repr=False)
    _prior: Latents = field(repr=False)
    _plan: ChunkPlan = field(repr=False)

    def chunks(self) -> Iterator[SpokenChunk]:
        """The sound part by part, the first one short; the pause is in the first."""
        start, told = 0, 0
        for samples in self._voice._sounds(self._prior, self._plan):
            if start == 0 and self.pause:
                samples = np.concatenate((np.zeros(self.pause, np.float32), samples))
            end, begun = start + len(samples), told
            while told < len(self.words) and self.words[told].start < end:
                told += 1
            yield SpokenChunk(samples, start, self.words[begun:told])
            start = end


@dataclass
class Speaking:
    """One text on its way to sound: how it is read, and what the next clause follows on."""

    voice: Voice
    options: SpeakOptions
    generator: torch.Generator
    _pause_s: float = 0.0
    _open: bool = False  # the clause before ended without a mark

    def read(self, clause: str) -> Reading | None:
        """How the next clause will be spoken; None if nothing in it can be.

        One that ends without a mark and goes on in small letters was cut where nobody pauses: the
        silence that the voice makes at its ends is left out.
        """
        voice, joined = self.voice, self._open and clause[:1].islower()
        pause = 0 if joined else round(self._pause_s * voice.sample_rate)
        spoken = verbalise(clause)
        phonemes = voice.phonemes(spoken)
        ids = voice.ids(phonemes)
        if not ids:
            return None
        self._open = clause[-1:].isalnum()
        prior = voice.vits.prior(ids, voice._sampling(self.options), self.generator)
        prior = prior.trimmed(start=joined, end=self._open)
        durations = tuple(frames * voice.vocoder.hop for frames in prior.durations)
        words = voice._words(clause, spoken, phonemes, durations, pause)
        ends = self._open or phonemes.rstrip().endswith((".", "?", "!"))
        self._pause_s = _SENTENCE_PAUSE_S if ends else _CLAUSE_PAUSE_S
        return Reading(clause, phonemes, durations, pause, words, voice, prior, self.options.plan)

    def stream(self, clause: str) -> Iterator[SpokenChunk]:
        """The sound of the next clause part by part; nothing if nothing in it can be spoken."""
        reading = self.read(clause)
        if reading is not None:
            yield from reading.chunks()

    def say(self, clause: str) -> Piece | None:
        """The sound of the next clause, a pause before it; None if nothing in it can be spoken."""
        reading = self.read(clause)
        if reading is None:
            return None
        samples = np.concatenate([chunk.samples for chunk in reading.chunks()])
        return Piece(
            sound=Sound(samples, self.voice.sample_rate),
            text=clause,
            phonemes=reading.phonemes,
            durations=reading.durations,
            pause=reading.pause,
            words=reading.words,
        )


def _dtype(precision: Precision | None, device: str) -> torch.dtype:
    on_gpu = device.startswith("cuda")
    dtype = _PRECISIONS[precision or ("float16" if on_gpu else "float32")]
    if on_gpu or dtype == torch.float32:
        return dtype
    if dtype == torch.float16 or not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        raise AudioError(
            f"This processor has no products in {precision}, which the voice was to compute in; "
            f"choose the precision float32."
        )
    return dtype


def _voice_file(folder: Path) -> Path:
    found = sorted(folder.glob("*.onnx")) if folder.is_dir() else []
    if len(found) != 1:
        raise AudioError(
            f"{folder} should be a folder with one voice (.onnx and .onnx.json) but holds "
            f"{len(found)}; run `voxsight models pull` or name another folder."
        )
    return found[0]
