"""How well the voice speaks: recognised back, against espeak-ng, and against onnxruntime."""

from __future__ import annotations

import re
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from assistant.bench.timing import REST_S
from assistant.errors import ConfigError
from assistant.evals.asr import score
from assistant.evals.edit_distance import edit_distance
from assistant.evals.piper import piper_inputs
from assistant.evals.piper import piper_session as _session
from audio.asr import RecogniseOptions
from audio.espeak import EspeakPhonemizer, espeak_installed
from audio.pcm import SAMPLE_RATE, Sound
from audio.resample import resample
from audio.speech_text import split_clauses, verbalise
from audio.tts import Phonemes, SpeakOptions, Voice
from audio.vits import Sampling

_PHONEME = re.compile(r"[^\s,.;:?!]ː?\u0329?")  # a sign with its length or syllable mark
_STRESS = "ˈˌ"


class Transcript(Protocol):
    """What a recogniser returns."""

    @property
    def text(self) -> str:
        """The words that were recognised."""
        ...


class TextRecogniser(Protocol):
    """Anything that writes down a sound."""

    def transcribe(self, sound: Sound, options: RecogniseOptions) -> Transcript:
        """The text of a 16 kHz sound."""
        ...


@dataclass(frozen=True)
class Sentence:
    """A sentence as it is written, and as it is to be read."""

    written: str
    read: str


@dataclass(frozen=True)
class SpokenRow:
    """One sentence spoken and recognised back: `errors` of `words` reference words."""

    sentence: Sentence
    recognised: str
    words: int
    errors: int
    audio_s: float


@dataclass(frozen=True)
class PhonemeErrors:
    """Phoneme error rates against espeak-ng on the same words."""

    rate: float
    with_stress: float


@dataclass(frozen=True)
class Parity:
    """Our torch voice against onnxruntime on the same phoneme ids, noise scales 0.

    max_abs: the largest difference of two samples, infinite if the lengths differ; the real-time
    factors are medians over the sentences, the two runs of each one after the other.
    """

    max_abs: float
    rtf: float
    rtf_onnxruntime: float
    time_ratio: float
    sentences: int
    threads: int


@dataclass(frozen=True)
class TtsReport:
    """All figures of a voice."""

    rows: tuple[SpokenRow, ...]
    phonemes: PhonemeErrors | None
    parity: Parity

    @property
    def wer(self) -> float:
        """Errors per reference word, over all sentences."""
        return sum(row.errors for row in self.rows) / max(1, sum(row.words for row in self.rows))

    def summary(self) -> dict[str, float | None]:
        """The figures that are compared over time."""
        return {
            "wer": round(self.wer, 4),
            "phoneme_error_rate": round(self.phonemes.rate, 4) if self.phonemes else None,
            "parity_max_abs": float(f"{self.parity.max_abs:.3g}"),
            "rtf": round(self.parity.rtf, 4),
            "rtf_onnxruntime": round(self.parity.rtf_onnxruntime, 4),
        }


def read_sentences(path: Path) -> list[Sentence]:
    """One sentence a line, after a tab how it is to be read where that is not plain; # comments.

    Raises ConfigError if the file cannot be read or holds no sentence.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"cannot read {path} ({type(error).__name__}); expected text, one sentence a line"
        ) from None
    parts = [line.split("\t") for line in lines if line.strip() and not line.startswith("#")]
    if not parts:
        raise ConfigError(f"{path} holds no sentence; expected one a line")
    return [Sentence(part[0].strip(), part[-1].strip()) for part in parts]


def evaluate_tts(
    sentences: Sequence[Sentence],
    voice: Voice,
    voice_file: Path,
    recogniser: TextRecogniser,
    *,
    threads: int = 1,
    seed: int = 0,
    progress: Callable[[SpokenRow], None] | None = None,
) -> TtsReport:
    """Speak every sentence, have it recognised, and compare phonemes and sound with others' work.

    Args:
        sentences: what to say.
        voice: the loaded voice; `voice_file`: its .onnx, for onnxruntime.
        recogniser: hears 16 kHz sound.
        threads: for torch and onnxruntime alike. One by default: where another process is busy,
            torch's two threads wait for each other at every small step, and only that is measured.
        seed: of the reading that is recognised.
        progress: called with each row as it is done.
    """
    rows = []
    for sentence in sentences:
        row = speak_and_recognise(sentence, voice, recogniser, seed)
        rows.append(row)
        if progress is not None:
            progress(row)
    phonemes = None
    if espeak_installed():
        phonemes = compare_phonemes(sentences, voice.phonemes, EspeakPhonemizer())
    parity = compare_with_onnxruntime(sentences, voice, voice_file, threads=threads)
    return TtsReport(tuple(rows), phonemes, parity)


def speak_and_recognise(
    sentence: Sentence, voice: Voice, recogniser: TextRecogniser, seed: int
) -> SpokenRow:
    """Say the sentence as written, and count the recogniser's word errors.

    A recogniser may write "example dot com" or "example.com" for the same sound, so the better of
    the two counts: against the sentence as it is written, or as it is to be read.
    """
    sound = voice.speak(sentence.written, SpeakOptions(seed=seed))
    heard = Sound(resample(sound.samples, sound.rate, SAMPLE_RATE), SAMPLE_RATE)
    text = recogniser.transcribe(heard, RecogniseOptions(language="en")).text.strip()
    scores = [score(reference, text, "en") for reference in (sentence.read, sentence.written)]
    errors, words = min(scores, key=lambda pair: pair[0] / max(1, pair[1]))
    return SpokenRow(sentence, text, words, errors, sound.duration_s)


def compare_phonemes(
    sentences: Sequence[Sentence], ours: Phonemes, reference: Phonemes
) -> PhonemeErrors:
    """Edit distance per reference phoneme over all sentences, without and with stress marks."""
    plain, stressed, count, count_stressed = 0, 0, 0, 0
    for sentence in sentences:
        words = " ".join(verbalise(clause) for clause in split_clauses(sentence.written))
        wanted, got = phoneme_units(reference(words)), phoneme_units(ours(words))
        stressed += edit_distance(wanted, got)
        count_stressed += len(wanted)
        wanted, got = _unstressed(wanted), _unstressed(got)
        plain += edit_distance(wanted, got)
        count += len(wanted)
    return PhonemeErrors(plain / max(1, count), stressed / max(1, count_stressed))


def phoneme_units(ipa: str) -> list[str]:
    """The phonemes and stress marks of a transcription: a vowel and its length mark are one."""
    return _PHONEME.findall(ipa)


def _unstressed(units: list[str]) -> list[str]:
    return [unit for unit in units if unit not in _STRESS]


def compare_with_onnxruntime(
    sentences: Sequence[Sentence],
    voice: Voice,
    voice_file: Path,
    *,
    threads: int = 1,
    repeats: int = 3,
) -> Parity:
    """Run each sentence on both, in turn, `repeats` times, and keep each one's median time."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    session = _session(voice_file, threads)
    worst, ours, theirs = 0.0, [], []
    try:
        for sentence in sentences:
            ids = voice.ids(voice.phonemes(verbalise(sentence.written)))
            mine, reference, my_times, their_times = _both(voice, session, ids, repeats)
            same = len(mine) == len(reference)
            worst = max(worst, float(np.abs(mine - reference).max()) if same else float("inf"))
            seconds = len(mine) / voice.sample_rate
            ours.append(statistics.median(my_times) / seconds)
            theirs.append(statistics.median(their_times) / seconds)
    finally:
        torch.set_num_threads(before)
    return Parity(
        max_abs=worst,
        rtf=statistics.median(ours),
        rtf_onnxruntime=statistics.median(theirs),
        time_ratio=statistics.median(a / b for a, b in zip(ours, theirs, strict=True)),
        sentences=len(ours),
        threads=threads,
    )


def _both(
    voice: Voice, session: Any, ids: list[int], repeats: int
) -> tuple[NDArray[np.float32], NDArray[np.float32], list[float], list[float]]:
    """Both runtimes' samples for the same ids without noise, and the time of each repeat."""
    still = Sampling(noise_scale=0.0, noise_w=0.0, length_scale=1.0)
    feeds = piper_inputs(ids)
    my_times, their_times = [], []
    for _ in range(repeats):
        time.sleep(REST_S)
        begun = time.perf_counter()
        mine = voice.vocoder(voice.vits.latents(ids, still).z).cpu().numpy()
        my_times.append(time.perf_counter() - begun)
        time.sleep(REST_S)
        begun = time.perf_counter()
        reference = session.run(None, feeds)[0].ravel()
        their_times.append(time.perf_counter() - begun)
    return mine, reference, my_times, their_times
