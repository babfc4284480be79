"""What goes into a conversation and what comes out of it, as values."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from assistant.errors import VoxsightError
from audio.asr_types import Transcript
from audio.pcm import Samples, Sound
from audio.spoken_words import SpokenWord

if TYPE_CHECKING:
    from PIL.Image import Image

# One question and its answer, in the order in which it happens.


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
    """More of the answer's sound, to be played after the parts before, and the words in it."""

    text: str
    sound: Sound


@dataclass(frozen=True)
class Finished:
    """The answer is complete. ``stages_ms`` maps each stage, in order, to what it took."""

    question: str
    answer: str
    stages_ms: dict[str, float]


Event = Heard | Seen | TextPiece | SpeechPiece | Finished


# A session, unlike one question, goes on: what comes in, in any order, ...


@dataclass(frozen=True, eq=False)
class AudioIn:
    """The next sound from the microphone: (n,) float32 at 16 kHz, at the speed of time."""

    samples: Samples


@dataclass(frozen=True, eq=False)
class PictureIn:
    """A frame from the camera or a picture that is shown, upright RGB."""

    image: "Image"


@dataclass(frozen=True)
class TextIn:
    """A question in writing. It stops a reply that is being spoken; VoxsightError if empty."""

    text: str

    def __post_init__(self) -> None:
        if not self.text.strip():
            raise VoxsightError("Expected a question in writing, got an empty one.")


@dataclass(frozen=True)
class Played:
    """How many samples of a reply's sound the listener has heard until now."""

    turn: int
    samples: int


@dataclass(frozen=True)
class StopReply:
    """The listener pressed stop."""


SessionInput = AudioIn | PictureIn | TextIn | Played | StopReply


# ... and what goes out. Positions are samples of the sound that came in.


@dataclass(frozen=True)
class SpeechBegan:
    """Someone speaks, since sample ``begin``."""

    begin: int


@dataclass(frozen=True)
class Partial:
    """Words so far: ``committed`` never changes again, ``tentative`` may."""

    committed: str
    tentative: str


@dataclass(frozen=True)
class Backchannelled:
    """The listener only said "mm-hmm": the reply goes on."""


@dataclass(frozen=True)
class TurnEnded:
    """The person's turn is over; it asked ``question``, and its speech ended at sample ``end``."""

    turn: int
    question: str
    end: int


@dataclass(frozen=True)
class PictureKept:
    """A frame showed something new and was looked at."""

    number: int
    seen: Seen


@dataclass(frozen=True)
class ReplyText:
    """More of a reply's text."""

    turn: int
    text: str


@dataclass(frozen=True, eq=False)
class ReplySound:
    """More of a reply's sound, from its sample ``start`` on, with the words that begin in it."""

    turn: int
    start: int
    sound: Sound
    words: tuple[SpokenWord, ...]


@dataclass(frozen=True)
class ReplyEnded:
    """Everything of a reply was sent; it may still be playing."""

    turn: int
    text: str


@dataclass(frozen=True)
class ReplyStopped:
    """A reply was interrupted after ``heard``, which is what the conversation remembers of it."""

    turn: int
    heard: str


@dataclass(frozen=True)
class SessionFailed:
    """The session is over because of a fault, told in one sentence."""

    message: str


@dataclass(frozen=True)
class SessionClosed:
    """The session is over because its input ended."""


SessionEvent = (
    SpeechBegan
    | Partial
    | Backchannelled
    | TurnEnded
    | PictureKept
    | ReplyText
    | ReplySound
    | ReplyEnded
    | ReplyStopped
    | SessionFailed
    | SessionClosed
)
