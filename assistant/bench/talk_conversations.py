"""What is said in the benchmark's conversations beside the recordings: remarks and replies."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Any

import numpy as np

from audio.pcm import SAMPLE_RATE, Samples
from audio.resample import resample
from audio.tts import SpeakOptions, SpokenChunk, Voice

#: About 25 s, and half of that.
LONG_REPLY = (
    "The old lighthouse stands on a rock at the end of the bay, and its keeper climbs the stairs "
    "every evening. He lights the lamp, writes the weather into his book, and looks for ships. In "
    "winter the storms last for days, and nobody can reach the rock. In summer the children of the "
    "village row out to him, and he tells them about the ships that he has seen. When the lamp "
    "goes out in the morning, he sleeps until noon."
)
SHORT_REPLY = (
    "The picture shows a small red teapot on a wooden table. A grey cat sleeps on the chair, and "
    "the late sun comes in through the window behind it. Somebody has left a newspaper there."
)

BACKCHANNELS = (
    *("Yeah.", "Okay.", "Right.", "Uh-huh.", "I see.", "Really?", "Sure.", "Wow.", "Oh, nice."),
    *("Got it.", "Yes.", "Yeah, yeah.", "Interesting.", "All right.", "Okay, great."),
)
#: Hums as phonemes: the voice reads the letters of "mm-hmm" one by one.
HUMS = ("mmˈm.", "mhˈm.", "əhˈəm.")
INTERRUPTIONS = (
    *("Stop.", "Wait, what was that?", "No, that's not what I meant.", "Hold on a second."),
    *("What about the other one?", "Can you say that again?", "Tell me something else."),
    *("Actually, how far is it to the station?", "Who painted it?", "That is enough, thank you."),
    *("I would like to hear about the cat instead.", "How old is it?", "Please be quiet."),
    *("Excuse me, I have a question.", "But why is it red?", "My phone is ringing, one moment."),
)
#: One after another, so that no two readings of a text are alike.
_RATES = (1.0, 1.2, 0.85, 1.1, 0.95)
_HISS = 1e-3  # -60 dB of full scale: a quiet room


@dataclass(frozen=True)
class Remark:
    """Something said while a reply is being heard: (n,) at 16 kHz."""

    text: str
    samples: Samples


def say(voice: Voice, text: str, options: SpeakOptions) -> Remark:
    """A text in our own voice, at the rate at which we listen."""
    sound = voice.speak(text, options)
    return Remark(text, resample(sound.samples, sound.rate, SAMPLE_RATE))


def backchannels(voice: Voice, count: int) -> Iterator[Remark]:
    """What a listener says who wants to hear on, every sixth time a hum."""
    texts, hums = cycle(BACKCHANNELS), cycle(HUMS)
    for number, options in enumerate(_readings(count)):
        if number % 6 == 5:
            yield _hum(voice, next(hums), options)
        else:
            yield say(voice, next(texts), options)


def interruptions(voice: Voice, people: Sequence[Samples], count: int) -> Iterator[Remark]:
    """What someone says who wants to speak; every fourth time it is a recording of a person."""
    texts, recordings = cycle(INTERRUPTIONS), cycle(people)
    for number, options in enumerate(_readings(count)):
        if people and number % 4 == 3:
            yield Remark("recording", next(recordings)[: 3 * SAMPLE_RATE])
        else:
            yield say(voice, next(texts), options)


def _readings(count: int) -> Iterator[SpeakOptions]:
    for seed, rate in enumerate(islice(cycle(_RATES), count)):
        yield SpeakOptions(rate=rate, seed=seed)


def _hum(voice: Voice, phonemes: str, options: SpeakOptions) -> Remark:
    humming = Voice(voice.config, voice.vits, voice.vocoder, lambda _: phonemes)
    return Remark(phonemes, say(humming, "hum", options).samples)


def in_a_room(samples: Samples, before_s: float, after_s: float) -> Samples:
    """Samples with a quiet room's hiss under, before and after them."""
    lead, tail = round(before_s * SAMPLE_RATE), round(after_s * SAMPLE_RATE)
    hiss = np.random.default_rng(0).normal(0, _HISS, lead + len(samples) + tail)
    hiss[lead : lead + len(samples)] += samples
    return hiss.astype(np.float32)


class PreparedVoice:
    """A voice that remembers how it spoke each clause, and says it again at no cost."""

    def __init__(self, voice: Any) -> None:
        self.sample_rate = voice.sample_rate
        self._speaking = voice.start()
        self._clauses: dict[str, list[SpokenChunk]] = {}

    def start(self) -> "PreparedVoice":
        """As a voice does; all texts are one to this one."""
        return self

    def stream(self, clause: str) -> Iterator[SpokenChunk]:
        """The clause's sound, made when it is said for the first time."""
        if clause not in self._clauses:
            self._clauses[clause] = list(self._speaking.stream(clause))
        yield from self._clauses[clause]


@dataclass(frozen=True)
class PreparedDecoder:
    """A language model that answers everything with one text, at once."""

    answer: str

    def prefill(self, prompt: Any, cache: Any) -> None:
        """Nothing to do."""

    def stream(self, prompt: Any, options: Any, cache: Any) -> Iterator[str]:  # noqa: ARG002
        """The answer word by word."""
        for word in self.answer.split():
            yield word + " "
