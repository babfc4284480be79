"""How soon an answer comes: its first sound, and the first token of a second turn."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from assistant.bench.timing import REST_S, interleaved
from assistant.errors import VoxsightError
from assistant.events import Partial, ReplySound, ReplyText, SpeechBegan, TurnEnded
from assistant.loading import Models
from assistant.rehearsal import Clock, Moment, Rehearsal
from assistant.session import Parts, Session, SessionConfig
from audio.asr import RecogniseOptions
from audio.pcm import SAMPLE_RATE, Samples, Sound
from audio.vad import BLOCK, SileroVad, VadState
from fusion.decoder import DecodeOptions, EmbeddedPrompt, KVCache
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
    first text after that; after: of the same models one after the other, from the decision on.
    """

    ours: float
    decided: float
    text: float
    after: float


def silence_figures(found: Sequence[Silence], asked: int) -> dict[str, float]:
    """Medians over recordings; ``asked`` of them were played.

    A loop that does one thing after the other has to decide as well that a turn is over: the main
    ratio gives it our decision, the one ``without_wait`` a person who presses a button.
    """
    return {
        "first_sound_ms_median": 1000 * median(one.ours for one in found),
        "first_sound_ms_max": 1000 * max(one.ours for one in found),
        "vs_sequential": median((one.decided + one.after) / one.ours for one in found),
        "vs_sequential_without_wait": median(one.after / one.ours for one in found),
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


def one_after_the_other(models: Models, sound: Sound, max_tokens: int) -> float:
    """Seconds to transcribe a question, write the whole answer and speak all of it."""
    begun = perf_counter()
    options = RecogniseOptions(language="en", beam_size=models.settings.recogniser_beam)
    heard = models.recogniser.transcribe(sound, options).text
    prompt = models.prompt_builder.build(models.prompts.ask(heard))
    stream = models.decoder.stream(prompt, DecodeOptions(max_tokens), models.prompt_cache())
    models.voice.speak("".join(stream))
    return perf_counter() - begun


def measure_first_sound(
    models: Models, parts: Parts, sounds: Sequence[Samples], progress: Callable[[str], None]
) -> dict[str, float]:
    """Each recording played into a session at the speed of speech, then to one model at a time."""
    found, changed = [], 0
    max_tokens = SessionConfig().max_answer_tokens
    activity = SileroVad.load()
    for number, samples in enumerate(sounds, start=1):
        progress(f"first sound, recording {number} of {len(sounds)}")
        end = end_of_speech(activity, samples)
        moments = asyncio.run(rehearse(Session(parts), samples, end))
        changed += partials_changed(moments)
        answer = last_answer(moments, end)
        if answer is None:
            continue
        question = Sound(samples[answer.begin : answer.end])
        spoke_until = answer.end / SAMPLE_RATE
        found.append(
            Silence(
                ours=answer.sound_at - spoke_until,
                decided=answer.decided_at - spoke_until,
                text=answer.text_at - spoke_until,
                after=one_after_the_other(models, question, max_tokens),
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
        "generate": partial(_generate, reference, theirs),
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


def _generate(reference: "Decoder", prompt: EmbeddedPrompt) -> None:
    import torch

    given = prompt.embeddings[None]
    with torch.inference_mode():
        reference.model.generate(
            inputs_embeds=given,
            attention_mask=torch.ones(given.shape[:2], dtype=torch.long),
            max_new_tokens=1,
            do_sample=False,
        )
