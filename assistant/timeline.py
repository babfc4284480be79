"""The time line of a conversation: figures per turn, JSON, and sound to listen to."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from assistant.events import (
    ReplyEnded,
    ReplySound,
    ReplyStopped,
    ReplyText,
    SessionEvent,
    SpeechBegan,
    TurnEnded,
)
from assistant.rehearsal import Listener, Moment
from audio.pcm import SAMPLE_RATE, Sound
from audio.resample import resample

# Figures


@dataclass(frozen=True)
class HeardPart:
    """A part of a reply's sound: made at ``made`` s, heard from ``begin`` to ``end`` s.

    What an interruption cut off ends where it was cut; what nobody heard ends where it begins.
    """

    made: float
    begin: float
    end: float
    event: ReplySound


@dataclass(frozen=True)
class TurnTimes:
    """One turn and its reply, in s after the start; None for what did not come."""

    turn: int
    question: str
    speech_end: float
    #: The turn was known to be over, and its words with it.
    decided: float
    #: What was written; of an interrupted reply what was heard.
    answer: str = ""
    first_text: float | None = None
    last_text: float | None = None
    first_sound: float | None = None
    #: The last of the reply was heard.
    silent: float | None = None
    interrupted: float | None = None

    def after_speech_ms(self, at: float | None) -> float | None:
        """How long after the end of speech a moment is."""
        return None if at is None else (at - self.speech_end) * 1000

    def summary(self) -> dict[str, Any]:
        """For programs: the latencies count from the end of speech."""
        return {
            "turn": self.turn,
            "question": self.question,
            "answer": self.answer,
            "speech_end_s": round(self.speech_end, 4),
            "decided_ms": _rounded(self.after_speech_ms(self.decided)),
            "first_text_ms": _rounded(self.after_speech_ms(self.first_text)),
            "first_sound_ms": _rounded(self.after_speech_ms(self.first_sound)),
            "silent_s": None if self.silent is None else round(self.silent, 4),
            "interrupted_s": None if self.interrupted is None else round(self.interrupted, 4),
        }


def _rounded(milliseconds: float | None) -> float | None:
    return None if milliseconds is None else round(milliseconds, 1)


def summarise(moments: Iterable[Moment]) -> list[TurnTimes]:
    """The turns in order, each with its times and its reply's."""
    moments = list(moments)
    turns: dict[int, TurnTimes] = {}
    for moment in moments:
        if isinstance(moment.event, TurnEnded):
            turn, question, end = moment.event.turn, moment.event.question, moment.event.end
            turns[turn] = TurnTimes(turn, question, end / SAMPLE_RATE, moment.at)
        elif (number := getattr(moment.event, "turn", None)) in turns:
            turns[number] = _with_reply(turns[number], moment)
    for part in heard_parts(moments):
        number = part.event.turn
        if number in turns and part.end > part.begin:
            turns[number] = replace(turns[number], silent=part.end)
    return list(turns.values())


def _with_reply(turn: TurnTimes, moment: Moment) -> TurnTimes:
    at = moment.at
    match moment.event:
        case ReplyText(_, text):
            first = at if turn.first_text is None else turn.first_text
            return replace(turn, answer=turn.answer + text, first_text=first, last_text=at)
        case ReplySound() if turn.first_sound is None:
            return replace(turn, first_sound=at)
        case ReplyEnded(_, text):
            return replace(turn, answer=text)
        case ReplyStopped(_, heard):
            return replace(turn, answer=heard, interrupted=at)
    return turn


def heard_parts(moments: Iterable[Moment]) -> list[HeardPart]:
    """When a listener heard each ``ReplySound``, in order; a new reply cuts off the one before."""
    listener = Listener()
    parts: list[HeardPart] = []
    for moment in moments:
        before = listener.turn
        listener.follow(moment.event, moment.at)
        match moment.event:
            case ReplySound(turn, start, sound, _) as event:
                if before not in (None, turn):
                    parts = [_cut(part, moment.at) for part in parts]
                begin = listener.begun + start / sound.rate
                parts.append(HeardPart(moment.at, begin, begin + sound.duration_s, event))
            case ReplyStopped(turn) if turn == before:
                parts = [_cut(part, moment.at) for part in parts]
    return parts


def _cut(part: HeardPart, at: float) -> HeardPart:
    return replace(part, begin=min(part.begin, at), end=min(part.end, at))


# For programs and for the ear


def timeline_json(moments: Sequence[Moment]) -> dict[str, Any]:
    """Every event with its time in s, without samples, and the turns' summaries."""
    parts = iter(heard_parts(moments))
    return {
        "duration_s": round(duration_of(moments), 4),
        "turns": [turn.summary() for turn in summarise(moments)],
        "events": [
            {"at_s": round(moment.at, 4), "event": _snake(type(moment.event).__name__)}
            | (_sound_json(next(parts)) if isinstance(moment.event, ReplySound) else {})
            | _event_json(moment.event)
            for moment in moments
        ],
    }


def _event_json(event: SessionEvent) -> dict[str, Any]:
    match event:
        case SpeechBegan(begin):
            return {"begin_s": begin / SAMPLE_RATE}
        case TurnEnded(turn, question, end):
            return {"turn": turn, "question": question, "speech_end_s": end / SAMPLE_RATE}
        case ReplySound():
            return {}
    return asdict(event)


def _sound_json(part: HeardPart) -> dict[str, Any]:
    event, rate = part.event, part.event.sound.rate
    words = [
        {"text": word.text, "start_s": word.start / rate, "end_s": word.end / rate}
        for word in event.words
    ]
    return {
        "turn": event.turn,
        "start_s": event.start / rate,
        "duration_s": event.sound.duration_s,
        "heard_s": [round(part.begin, 4), round(part.end, 4)],
        "words": words,
    }


def _snake(name: str) -> str:
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in name).lstrip("_")


def duration_of(moments: Iterable[Moment]) -> float:
    """When the last event came or the last sound was heard, in s."""
    moments = list(moments)
    ends = [moment.at for moment in moments] + [part.end for part in heard_parts(moments)]
    return max(ends, default=0.0)


def stereo(sound: Sound, moments: Sequence[Moment]) -> tuple[NDArray[np.float32], int]:
    """The conversation as it was heard, (n, 2), and its rate.

    The person is on the left, the assistant on the right, each reply at the time it was heard.
    """
    parts = heard_parts(moments)
    rate = parts[0].event.sound.rate if parts else sound.rate
    person = resample(sound.samples, sound.rate, rate)
    length = max(len(person), round(max((part.end for part in parts), default=0.0) * rate) + 1)
    both = np.zeros((length, 2), np.float32)
    both[: len(person), 0] = person
    for part in parts:
        begin = round(part.begin * rate)
        samples = part.event.sound.samples[: round((part.end - part.begin) * rate)]
        samples = samples[: length - begin]
        both[begin : begin + len(samples), 1] = samples
    return both, rate
