"""A line is spoken as it was fitted, and recognised back: what nobody understands is said anew."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import python_stretch
import soundfile

from assistant.evals.asr import score
from assistant.jobs.content import read_json, write_json
from assistant.jobs.dub.lines import FittedLine, SpokenLine
from assistant.jobs.dub.pauses import lengthened
from assistant.jobs.dub.voices import DubVoice, Said
from audio.asr_types import RecogniseOptions
from audio.pcm import SAMPLE_RATE, Samples, Sound
from audio.resample import resample
from audio.spoken_words import SpokenWord

#: The files of a spoken line.
# No WAV: with floating-point samples those note when they were written, and no two are the same.
VOICE_FILE, LINE_FILE = "voice.au", "line.json"

_BETWEEN_DIGITS = re.compile(r"(?<=\d)(?:[\s,.-]|and)+(?=\d)")
_SEEDS = 32  # readings that are measured, which costs little ...
_TRIES = 8  # ... and how many of those are made and listened to
_NEAR_MS = 60  # of where the fitted reading ends, another may end
_STEP_MS = 10
_QUIET_DB = -35.0  # below the line's loudest step
_PAUSE_MS = 200  # a shorter gap belongs to the words around it


class Text(Protocol):
    """What a recogniser returns."""

    @property
    def text(self) -> str:
        """The words that were recognised."""
        ...


class Listener(Protocol):
    """Anything that writes down a sound, such as ``audio.asr.Recogniser``."""

    def transcribe(self, sound: Sound, options: RecogniseOptions) -> Text:
        """The text of a 16 kHz sound."""
        ...


@dataclass(frozen=True)
class _Take:
    """One reading of a line."""

    fitted: FittedLine
    said: Said
    heard: str
    errors: int
    words: int


def speak(
    fitted: FittedLine, voice: DubVoice, listener: Listener, language: str, folder: Path
) -> SpokenLine:
    """Speak a line into ``folder``: the reading that is understood best of a few alike in length.

    Args:
        fitted: what to say, how fast, and when it is to end.
        voice: says it.
        listener: hears it; its word errors choose among readings.
        language: code of what is said.
        folder: gets voice.au (mono float32 at the voice's rate) and line.json.
    """
    best: _Take | None = None
    for reading in _readings(fitted, voice):
        take = _listen(reading, voice, listener, language)
        if best is None or take.errors < best.errors:
            best = take
        if not best.errors:
            break
    assert best is not None  # the first reading is the fitted one itself
    spoken = _spoken(best, voice.sample_rate)
    soundfile.write(folder / VOICE_FILE, best.said.samples, voice.sample_rate, subtype="FLOAT")
    write_json(folder / LINE_FILE, spoken.to_dict())
    return spoken


def read_spoken(folder: Path) -> SpokenLine:
    """The line that ``speak`` wrote into a folder."""
    return SpokenLine.from_dict(read_json(folder / LINE_FILE))


def _readings(fitted: FittedLine, voice: DubVoice) -> Iterator[FittedLine]:
    """The line as it was fitted, then with seeds that end about as well."""
    yield fitted
    tries = 1
    for seed in range(_SEEDS):
        if seed == fitted.seed or tries == _TRIES:
            continue
        samples = voice.measure(fitted.wording, fitted.rate, seed) * fitted.stretch
        length_ms = round(samples * 1000 / voice.sample_rate) + fitted.added_pause_ms
        end_ms = fitted.start_ms + length_ms
        other = replace(fitted, seed=seed, end_ms=end_ms)
        latest = fitted.line.end_ms + fitted.line.free_ms
        if abs(end_ms - fitted.end_ms) <= _NEAR_MS and end_ms <= max(latest, fitted.end_ms):
            tries += 1
            yield other


def _listen(fitted: FittedLine, voice: DubVoice, listener: Listener, language: str) -> _Take:
    said = voice.say(fitted.wording, fitted.rate, fitted.seed)
    said = stretched(said, fitted.stretch, voice.sample_rate)
    said = lengthened(said, fitted.added_pause_ms, voice.sample_rate)
    sound = Sound(resample(said.samples, voice.sample_rate, SAMPLE_RATE), SAMPLE_RATE)
    # Only greedy: another temperature would draw lots, and no two runs would give the same bytes.
    options = RecogniseOptions(language=language, temperatures=(0.0,))
    heard = listener.transcribe(sound, options).text.strip()
    errors, words = understood(fitted.wording, heard, language)
    return _Take(fitted, said, heard, errors, words)


def understood(wording: str, heard: str, language: str) -> tuple[int, int]:
    """Word errors of what was heard, and words of the wording.

    Who counts "1, 2, 3" may be written down as "123": numbers in a row are also compared as one.
    """
    errors, words = score(wording, heard, language)
    said, written = (_BETWEEN_DIGITS.sub("", text) for text in (wording, heard))
    return min(errors, score(said, written, language)[0]), words


def _spoken(take: _Take, rate: int) -> SpokenLine:
    start, samples = take.fitted.start_ms, take.said.samples
    end = start + round(len(samples) * 1000 / rate)

    def at(position: int) -> int:
        return start + round(position * 1000 / rate)

    fitted = replace(take.fitted, end_ms=end)
    slot_end = fitted.line.end_ms + fitted.borrowed_ms
    quiet = silence_ms(samples, rate, start - fitted.line.start_ms, slot_end - fitted.line.start_ms)
    return SpokenLine(
        fitted=fitted,
        start_ms=start,
        end_ms=end,
        words=tuple((word.text, at(word.start), at(word.end)) for word in take.said.words),
        back_text=take.heard,
        back_wer=round(take.errors / max(1, take.words), 4),
        silence_ms=quiet,
    )


def stretched(said: Said, factor: float, rate: int) -> Said:
    """The same speech, ``factor`` times as long at the same pitch (Signalsmith Stretch)."""
    if factor == 1.0 or not len(said.samples):
        return said
    length = round(len(said.samples) * factor)
    stretch = python_stretch.Signalsmith.Stretch()
    stretch.preset(1, float(rate))
    stretch.setTimeFactor(len(said.samples) / length)
    made = np.asarray(stretch.process(said.samples[None]), np.float32)[0, :length]
    words = tuple(
        SpokenWord(word.text, round(word.start * factor), round(word.end * factor))
        for word in said.words
    )
    return Said(np.pad(made, (0, length - len(made))), words)


def silence_ms(samples: Samples, rate: int, start_ms: int, slot_ms: int) -> int:
    """How much of a slot of ``slot_ms`` no voice is heard in, if the samples begin at ``start_ms``.

    Gaps shorter than 0.2 s between sounds count as speech.
    """
    step = rate * _STEP_MS // 1000
    steps = len(samples) // step
    powers = np.square(samples[: steps * step].reshape(steps, step)).mean(axis=1)
    loud = powers > powers.max(initial=0.0) * 10 ** (_QUIET_DB / 10)
    return quiet_ms([start_ms + int(at) * _STEP_MS for at in np.flatnonzero(loud)], slot_ms)


def quiet_ms(loud: list[int], slot_ms: int) -> int:
    """How much of a slot is quiet, given when (ms, rising) a step of 10 ms in it is loud."""
    quiet, until = 0, 0
    for at in [begin for begin in loud if begin < slot_ms]:
        gap = at - until
        # Before the first sound any gap is silence; between sounds a short one is none.
        quiet += gap if gap >= _PAUSE_MS or (until == 0 and gap > 0) else 0
        until = max(until, at + _STEP_MS)
    return quiet + max(0, slot_ms - until)
