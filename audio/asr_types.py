"""What recognition takes and gives: options, words, segments, transcripts."""

from dataclasses import dataclass
from typing import Literal

from audio.errors import AudioError

Task = Literal["transcribe", "translate"]


@dataclass(frozen=True)
class Word:
    """One word with its punctuation; times in s from the start of the sound.

    ``text`` keeps the space before it: a segment's words, joined, spell its text.
    """

    start: float
    end: float
    text: str
    probability: float


@dataclass(frozen=True)
class Segment:
    """A stretch of speech that the model put between two time marks; times in s."""

    start: float
    end: float
    text: str
    words: tuple[Word, ...] = ()
    avg_logprob: float = 0.0
    no_speech_prob: float = 0.0
    compression_ratio: float = 1.0
    temperature: float = 0.0
    tokens: tuple[int, ...] = ()
    #: Where it was detected for each window by itself; else the transcript's holds.
    language: str | None = None


@dataclass(frozen=True)
class Transcript:
    """What was said in a whole sound, with the language that was given or detected."""

    text: str
    language: str
    language_probability: float
    duration_s: float
    segments: tuple[Segment, ...]


@dataclass(frozen=True)
class RecogniseOptions:
    """How to recognise; the thresholds are those of the Whisper paper (section 4.5)."""

    #: A code such as "en" or "de"; None detects it (English-only models know one answer).
    language: str | None = None
    task: Task = "transcribe"
    words: bool = False
    beam_size: int = 1
    #: Tried in order until the text passes the two checks below.
    temperatures: tuple[float, ...] = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
    max_compression_ratio: float = 2.4
    min_avg_logprob: float = -1.0
    #: Above this, and below ``min_avg_logprob``, a window counts as silence.
    max_no_speech_prob: float = 0.6
    #: Give the text of the window before as context: smoother joints, but errors carry over.
    condition_on_previous_text: bool = False
    #: Words to expect (names, spelling), given as context to every window.
    prompt: str | None = None
    #: Silence after the end of a short window in s; None pads every window to 30 s.
    tail_s: float | None = 5.0

    def __post_init__(self) -> None:
        if self.task not in ("transcribe", "translate"):
            raise AudioError(f"expected the task transcribe or translate, got {self.task!r}")
        if self.beam_size < 1:
            raise AudioError(f"expected a beam size of 1 or more, got {self.beam_size}")
        if not self.temperatures or not all(0 <= t <= 2 for t in self.temperatures):
            raise AudioError(f"expected temperatures from 0 to 2, got {self.temperatures}")
        if self.tail_s is not None and not 0 <= self.tail_s <= 30:
            raise AudioError(f"expected a tail of 0 to 30 s, got {self.tail_s}")
