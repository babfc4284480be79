"""Speech over a reply: what stops it, how soon, and which words the conversation remembers."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any, cast

import numpy as np

from assistant.bench.talk_clock import late, loop_clock, simulate
from assistant.bench.talk_conversations import PreparedDecoder, PreparedVoice, Remark, in_a_room
from assistant.events import (
    Played,
    ReplyEnded,
    ReplySound,
    ReplyStopped,
    SessionEvent,
    SessionInput,
    StopReply,
    TextIn,
)
from assistant.memory import Memory
from assistant.rehearsal import Cue, Moment, Rehearsal
from assistant.reply import Tongue
from assistant.session import Parts, Session
from audio.asr import Recogniser, Segment
from audio.pcm import SAMPLE_RATE, Samples, Sound, silence
from audio.resample import resample
from audio.speech_text import split_clauses
from audio.tts import Voice
from fusion.decoder import Decoder

_ASK = TextIn("Tell me about it.")
#: A remark is judged this long after its end at most.
_VERDICT_S = 2.0
#: So long after a stop, sound would still be noticed.
_AFTER_STOP_S = 0.5


def with_answer(parts: Parts, text: str) -> Parts:
    """The same parts, but every question is answered at once, with ``text``."""
    decoder = cast(Decoder, PreparedDecoder(text))
    return replace(parts, decoder=decoder)


def prepared(parts: Parts, text: str) -> Parts:
    """As ``with_answer``, and the voice makes its sound only once, however often it is heard."""
    voice = cast(Voice, PreparedVoice(parts.tongue.voice))
    return replace(with_answer(parts, text), tongue=Tongue(voice, parts.tongue.worker))


@dataclass(frozen=True)
class Overlap:
    """One remark over a reply; times in s after the remark began, None if the reply went on.

    ``late_s``: how long after the stop the last of the reply's sound came, 0 if none did.
    """

    stopped_s: float | None
    late_s: float = 0.0


def overlap(moments: Sequence[Moment], begin_s: float) -> Overlap:
    """What a time line says about the remark that began at ``begin_s``."""
    stop = next((each for each in moments if isinstance(each.event, ReplyStopped)), None)
    if stop is None:
        return Overlap(None)
    return Overlap(stop.at - begin_s, late_sound(moments, stop.at, cast(Any, stop.event).turn))


def late_sound(moments: Iterable[Moment], stop_s: float, turn: int) -> float:
    """How long after ``stop_s`` the last sound of a reply came, in s; 0 if none did."""
    sounds = [
        each.at
        for each in moments
        if isinstance(each.event, ReplySound) and each.event.turn == turn
    ]
    return max(0.0, max(sounds, default=0.0) - stop_s)


def speak_over(parts: Parts, remark: Samples, begin_s: float) -> Overlap:
    """Play a remark into a session while its reply is heard, on a simulated clock.

    The microphone hears the remark and a quiet room, not the reply: whoever listens wears
    headphones, or echo is cancelled.
    """

    async def run() -> list[Moment]:
        sound = Sound(in_a_room(remark, begin_s, _VERDICT_S))
        session = Session(late(parts))
        return await Rehearsal(
            session, sound, [Cue(0.0, _ASK)], loop_clock(), patience_s=0, rest_s=0
        ).run()

    return overlap(simulate(run()), begin_s)


def overlaps(parts: Parts, remarks: Sequence[Remark], tell: Callable[[str], None]) -> list[Overlap]:
    """Each remark over a reply of its own, begun at various moments of it."""
    found = []
    for number, remark in enumerate(remarks):
        tell(f"{number + 1} of {len(remarks)}, {remark.text}")
        found.append(speak_over(parts, remark.samples, 1.0 + 0.37 * number % 3.0))
    return found


def overlap_figures(
    backchannels: Sequence[Overlap], interruptions: Sequence[Overlap]
) -> dict[str, float]:
    """Shares of remarks that were taken for the other kind, and how fast real ones stop a reply."""
    stopped = [each.stopped_s for each in interruptions if each.stopped_s is not None]
    return {
        "backchannel_cuts": sum(o.stopped_s is not None for o in backchannels) / len(backchannels),
        "missed_interruptions": 1 - len(stopped) / len(interruptions),
        "interruption_ms_median": 1000 * median(stopped) if stopped else float("inf"),
        "backchannel_trials": len(backchannels),
        "interruption_trials": len(interruptions),
    }


def stop_delays(parts: Parts, at_s: Sequence[float]) -> list[float]:
    """A reply is stopped while it is being made, in real time: how late its last sound came, in s.

    ``at_s`` are the moments at which the listener presses stop, one for each reply.
    """

    async def run(at: float) -> float:
        cues = [Cue(0.0, _ASK), Cue(at, StopReply())]
        rehearsal = Rehearsal(
            Session(parts), silence(at + _AFTER_STOP_S), cues, patience_s=0, rest_s=0
        )
        return late_sound(await rehearsal.run(), at, turn=1)

    return [asyncio.run(run(at)) for at in at_s]


# What the conversation remembers of a reply that was cut off


def remembered(parts: Parts, played: int) -> str:
    """The answer in the history of a session whose listener heard ``played`` samples of a reply."""
    return asyncio.run(_remembered(parts, played))


async def _remembered(parts: Parts, played: int) -> str:
    memories: list[Memory] = []

    def new_memory() -> Memory:
        memories.append(parts.new_memory())
        return memories[-1]

    said = asyncio.Event()

    async def inputs() -> AsyncIterator[SessionInput]:
        yield _ASK
        await said.wait()
        yield Played(1, played)
        yield StopReply()

    def follow(event: SessionEvent) -> None:
        if isinstance(event, ReplyEnded):
            said.set()

    async for event in Session(replace(parts, new_memory=new_memory)).run(inputs()):
        follow(event)
    history = memories[0].history
    return str(history[-1].parts[0]) if history else ""


def words_played(middles_s: Sequence[float], played_s: float) -> int:
    """How many words someone has heard: half a word counts."""
    return sum(middle < played_s for middle in middles_s)


def history_errors(parts: Parts, middles_s: Sequence[float], step_s: float = 0.1) -> list[int]:
    """Words in the history against words played, at cut points every ``step_s`` of a reply.

    Args:
        parts: with a prepared answer.
        middles_s: where the middle of each of its words sounds, as someone else measured it.
        step_s: the first cut is at 0, the last one after the end.
    """
    rate = parts.tongue.voice.sample_rate
    cuts = [number * step_s for number in range(round((max(middles_s) + 1) / step_s))]
    kept = [len(remembered(parts, round(cut * rate)).split()) for cut in cuts]
    return [abs(n - words_played(middles_s, cut)) for n, cut in zip(kept, cuts, strict=True)]


def aligned(recogniser: Recogniser, sound: Sound, text: str) -> list[float]:
    """The middle of each word of a spoken text in s, as the recogniser hears it: an alignment.

    It knows nothing of the voice's own times. At most 30 s.
    """
    samples = resample(sound.samples, sound.rate, SAMPLE_RATE)
    features = recogniser.features()
    features.push(samples)
    frames = len(samples) * 100 // SAMPLE_RATE
    window = recogniser.encode(features.window(0), frames, None)
    tokens = tuple(recogniser.tokens.encode(" " + text))
    segment = Segment(0.0, sound.duration_s, text, tokens=tokens)
    timed = recogniser.add_word_times(
        window, [segment], language="en", task="transcribe", offset_s=0.0, previous_end_s=0.0
    )
    return [(word.start + word.end) / 2 for word in timed[0].words]


def spoken(voice: Any, text: str) -> Sound:
    """A text as a reply speaks it, clause by clause."""
    speaking = voice.start()
    chunks = [chunk.samples for clause in split_clauses(text) for chunk in speaking.stream(clause)]
    return Sound(np.concatenate(chunks), voice.sample_rate)
