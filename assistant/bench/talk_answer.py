"""How soon an answer comes: its first sound, and the first token of a second turn."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np

from assistant.bench.talk_sequential import RECORDED_S, Loop, generate
from assistant.bench.timing import REST_S, interleaved
from assistant.errors import VoxsightError
from assistant.events import Partial, ReplySound, ReplyText, SpeechBegan, TurnEnded
from assistant.rehearsal import Clock, Moment, Rehearsal
from assistant.session import Parts, Session
from audio.pcm import SAMPLE_RATE, Samples, Sound
from audio.vad import BLOCK, SileroVad, VadState
from fusion.decoder import DecodeOptions, KVCache
from fusion.prompt import PromptBuilder, Turn

if TYPE_CHECKING:
    from assistant.memory import Memory
    from fusion.decoder import Decoder

_SPEECH = 0.35  # as in turn taking: below this probability speech has ended
_PATIENCE_S = 5.0
_NEAR = SAMPLE_RATE // 4
#: Exchanges of about 30 tokens each, for a history.
_EXCHANGES = (
    ("What do you see on the table?", "A red teapot, a white cup and a newspaper from yesterday."),
    (
        "Is there anybody in the room?",
        "No, only a grey cat that sleeps on the chair by the window.",
    ),
    ("What is the weather like outside?", "The sun shines, and a few clouds are over the hills."),
    ("How many windows are there?", "There are two windows, and the left one is open a little."),
)
_SECOND_QUESTION = "And what colour is the cup that stands behind the teapot?"


@dataclass(frozen=True)
class Silence:
    """One recording: the silence between the end of speech and the first sound of the answer, in s.

    ours: of the session; decided: until it was decided that the turn is over; text: until the
    first text after that; published, own: of the same models one after the other, from the end of
    the recording on, in the runtimes that they are published for and in ours.
    """

    ours: float
    decided: float
    text: float
    published: float
    own: float


def silence_figures(found: Sequence[Silence], asked: int) -> dict[str, float]:
    """Medians over recordings; ``asked`` of them were played.

    A loop that does one thing after the other has to decide as well that a turn is over. The main
    ratio is that of the published runtimes. The stricter ones have our runtimes, so that only the
    order differs: with our own decision, and ``without_wait``, as if a button were pressed.
    """
    return {
        "first_sound_ms_median": 1000 * median(one.ours for one in found),
        "first_sound_ms_max": 1000 * max(one.ours for one in found),
        "vs_sequential": median((RECORDED_S + one.published) / one.ours for one in found),
        "vs_sequential_own": median((one.decided + one.own) / one.ours for one in found),
        "vs_sequential_own_without_wait": median(one.own / one.ours for one in found),
        "sequential_ms_median": 1000 * median(RECORDED_S + one.published for one in found),
        "turn_decided_ms_median": 1000 * median(one.decided for one in found),
        "first_text_ms_median": 1000 * median(one.text for one in found),
        "unanswered": asked - len(found),
    }


def end_of_speech(activity: SileroVad, samples: Samples) -> int:
    """The sample at which the last speech of a recording ends."""
    voiced = np.flatnonzero(activity.push(VadState(), samples) >= _SPEECH)
    if not voiced.size:
        raise VoxsightError("Expected speech in the recording, but none was heard; leave it out.")
    return min(len(samples), (int(voiced[-1]) + 1) * BLOCK)


@dataclass(frozen=True)
class Answered:
    """The last turn of a recording: its samples, and when it was over and answered, in s."""

    begin: int
    end: int
    decided_at: float
    text_at: float
    sound_at: float


def last_answer(moments: Sequence[Moment], end: int) -> Answered | None:
    """The turn that ended with the recording's speech at sample ``end``, if it was answered."""
    begin, ended, text_at = 0, None, 0.0
    for moment in moments:
        match moment.event:
            case SpeechBegan(at) if ended is None:
                begin = at
            case TurnEnded(turn, _, at) if at >= end - _NEAR:
                ended, text_at = (turn, at, moment.at), 0.0
            case ReplyText(turn) if ended is not None and turn == ended[0]:
                text_at = text_at or moment.at
            case ReplySound(turn) if ended is not None and turn == ended[0]:
                return Answered(begin, ended[1], ended[2], text_at, moment.at)
    return None


async def rehearse(
    session: Session, samples: Samples, end: int, clock: Clock | None = None
) -> list[Moment]:
    """Play a recording up to ``end``, silence after it, until the last turn's answer begins."""
    moments: list[Moment] = []

    def follow(moment: Moment) -> None:
        moments.append(moment)
        if last_answer(moments, end) is not None:
            playing.cancel()

    rehearsal = Rehearsal(
        *(session, Sound(samples[:end]), (), clock or Clock(), _PATIENCE_S), on_event=follow
    )
    playing = asyncio.create_task(rehearsal.run())
    with suppress(asyncio.CancelledError):
        await playing
    return moments


def partials_changed(moments: Sequence[Moment]) -> int:
    """How often words that a session called committed were not there any more, within a turn."""
    changed, before = 0, ""
    for moment in moments:
        match moment.event:
            case SpeechBegan():
                before = ""
            case Partial(committed, _):
                changed += not committed.startswith(before)
                before = committed
    return changed


def measure_first_sound(
    parts: Parts,
    published: Loop,
    own: Loop,
    sounds: Sequence[Samples],
    progress: Callable[[str], None],
) -> dict[str, float]:
    """Each recording played into a session at the speed of speech, then to one model at a time."""
    found, changed = [], 0
    activity = SileroVad.load()
    for number, samples in enumerate(sounds, start=1):
        progress(f"first sound, recording {number} of {len(sounds)}")
        end = end_of_speech(activity, samples)
        moments = asyncio.run(rehearse(Session(parts), samples, end))
        changed += partials_changed(moments)
        answer = last_answer(moments, end)
        if answer is None:
            continue
        question = samples[answer.begin : answer.end]
        spoke_until = answer.end / SAMPLE_RATE
        found.append(
            Silence(
                ours=answer.sound_at - spoke_until,
                decided=answer.decided_at - spoke_until,
                text=answer.text_at - spoke_until,
                published=published.seconds(question),
                own=own.seconds(question),
            )
        )
    return silence_figures(found, len(sounds)) | {"commits_changed": changed}


def conversation(memory: "Memory", seen: Any, tokens: int) -> list[Turn]:
    """The prompt of a question after a picture and exchanges of ``tokens`` or a little more."""
    memory.see(seen, 0)
    number = 0
    while memory.tokens < tokens:
        asked, answered = _EXCHANGES[number % len(_EXCHANGES)]
        memory.remember(memory.question(asked)[-1], answered)
        number += 1
    return memory.question(_SECOND_QUESTION)


def measure_second_turn(
    parts: Parts, reference: "Decoder", *, tokens: int = 500, rounds: int = 5
) -> dict[str, float]:
    """Time to the first token of a later turn, beside transformers' ``generate`` from scratch.

    The session's cache holds the history; none of the question, as if it came in writing, and in
    a second measure all of it, as it does of a question whose words were read while it was asked.
    """
    from PIL import Image

    turns = conversation(parts.new_memory(), parts.look(Image.new("RGB", (320, 240))), tokens)
    prompt = parts.prompts.build(turns)
    kept, spoken = parts.new_cache(), parts.new_cache()
    parts.decoder.prefill(parts.prompts.build(turns[:-1], open_answer=False), kept)
    parts.decoder.prefill(parts.prompts.build(turns, open_answer=False), spoken)
    lengths = {id(kept): len(kept), id(spoken): len(spoken)}

    def first_token(cache: KVCache) -> None:
        cache.crop(lengths[id(cache)])
        next(parts.decoder.stream(prompt, DecodeOptions(max_tokens=4), cache), "")

    theirs = PromptBuilder(reference).build(turns)
    cases: dict[str, Callable[[], object]] = {
        "kept": partial(first_token, kept),
        "spoken": partial(first_token, spoken),
        "generate": partial(generate, reference, theirs, 1),
    }
    times = interleaved(cases, rounds, rest_s=REST_S)
    return {
        "second_turn_ttft_vs_generate": times["generate"] / times["kept"],
        "second_turn_ttft_spoken_vs_generate": times["generate"] / times["spoken"],
        "second_turn_ttft_ms": 1000 * times["kept"],
        "generate_ttft_ms": 1000 * times["generate"],
        "second_turn_tokens": len(prompt),
        "second_turn_new_tokens": len(prompt) - lengths[id(kept)],
    }
