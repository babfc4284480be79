"""What happens while a question is answered, in the order in which it happens."""

from dataclasses import dataclass

from audio.asr_types import Transcript
from audio.pcm import Sound


@dataclass(frozen=True)
class Heard:
    """The spoken question was recognised."""

    transcript: Transcript


@dataclass(frozen=True)
class Sighting:
    """One thing that the encoder believes to see, with a probability of 0..1."""

    name: str
    probability: float


@dataclass(frozen=True)
class Seen:
    """The picture was encoded; ``recognised`` is False if it resembles nothing known."""

    sightings: tuple[Sighting, ...]
    recognised: bool


@dataclass(frozen=True)
class TextPiece:
    """More of the answer's text, as the language model writes it."""

    text: str


@dataclass(frozen=True)
class SpeechPiece:
    """More of the answer's sound: one clause, to be played after the ones before."""

    text: str
    sound: Sound


@dataclass(frozen=True)
class Finished:
    """The answer is complete. ``stages_ms`` maps each stage, in order, to what it took."""

    question: str
    answer: str
    stages_ms: dict[str, float]


Event = Heard | Seen | TextPiece | SpeechPiece | Finished
