"""What a session's ear hears of recordings: words, when they are final, and ten minutes on end."""

import asyncio
import tracemalloc
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np

from assistant.bench.talk_clock import LateWorker, simulate
from assistant.ear import Ear
from assistant.evals.asr import Recording, score
from assistant.rehearsal import CHUNK
from assistant.session import Parts, SessionConfig
from audio.pcm import SAMPLE_RATE, Samples
from audio.turn import Done, MaybeDone, Patience, SpeechStarted, TurnConfig, TurnEvent

#: Pauses inside a sentence that is read aloud do not end it.
WHOLE_TURNS = TurnConfig(done=Patience(2000, 2000, 2000))
_REST_S = 2.6  # of silence, in which a turn ends
#: A monologue is read less often than the half second of a conversation, to save time.
_MONOLOGUE_MS = 3000
#: Chunks before a minute's end among which the least memory counts: what a pass of recognition has
#: borrowed is not held.
_LATEST = 100
_ENDS = 3  # minutes
_MINUTE = 60 * SAMPLE_RATE
#: Only longer utterances count for the final transcript.
_LONG_S = 5.0


@dataclass
class Utterance:
    """What was heard of one turn.

    ``final_s`` is the time from the decision that the turn was over to its text; ``changed`` counts
    how often words that were called final were not the beginning of the next ones.
    """

    begin: int
    end: int = 0
    text: str = ""
    final_s: float = 0.0
    changed: int = 0
    _committed: str = field(default="", repr=False)

    def commit(self, text: str) -> None:
        """All words of the turn that are final by now."""
        self.changed += not text.startswith(self._committed)
        self._committed = text

    @property
    def seconds(self) -> float:
        """How long it lasted."""
        return (self.end - self.begin) / SAMPLE_RATE


class Hearer:
    """Does with an ear what a session does, and nothing else. One recording, on any loop."""

    def __init__(self, ear: Ear, on_chunk: Callable[[int], None] = lambda _: None) -> None:
        self._ear, self._on_chunk = ear, on_chunk
        self.utterances: list[Utterance] = []

    async def hear(self, samples: Samples) -> list[Utterance]:
        """Take in all sound at the speed of the loop's clock; ``on_chunk`` is told the position."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            for start in range(0, len(samples), CHUNK):
                chunk = samples[start : start + CHUNK]
                await asyncio.sleep(len(chunk) / SAMPLE_RATE)
                self._follow(self._ear.hear(chunk))
                if self._ear.due:
                    group.create_task(self._read())
                self._on_chunk(start + len(chunk))
        return self.utterances

    def _follow(self, events: list[TurnEvent]) -> None:
        for event in events:
            match event:
                case SpeechStarted(_, begin):
                    self._ear.begin(begin)
                    self.utterances.append(Utterance(begin))
                case MaybeDone():
                    self._group.create_task(self._read())
                case Done(_, end):
                    self._group.create_task(self._finish(self.utterances[-1], end))

    async def _read(self) -> None:
        utterance = self.utterances[-1]
        events = await self._ear.read()
        if utterance is self.utterances[-1]:
            utterance.commit(self._ear.heard.committed.strip())
        self._follow(events)

    async def _finish(self, utterance: Utterance, end: int) -> None:
        clock = asyncio.get_running_loop().time
        begun, really = clock(), perf_counter()
        utterance.text = await self._ear.finish()
        # Where no model is called, the simulated clock stands still.
        utterance.final_s = max(clock() - begun, perf_counter() - really)
        utterance.end = end
        utterance.commit(utterance.text)


def ear_of(parts: Parts, turns: TurnConfig, every_ms: int) -> Ear:
    """An ear as sessions have, for a simulated clock."""
    worker = LateWorker("listen", asyncio.Lock())
    return Ear(parts.activity, parts.listener, worker, turns, every_ms)


def hear(parts: Parts, samples: Samples, turns: TurnConfig | None = None) -> list[Utterance]:
    """The utterances of a recording, heard at the speed of a simulated clock."""

    async def run() -> list[Utterance]:
        config = SessionConfig()
        ear = ear_of(parts, turns or config.turns, config.recognise_every_ms)
        rest = np.zeros(round(_REST_S * SAMPLE_RATE), np.float32)
        return await Hearer(ear).hear(np.concatenate((samples, rest)))

    return simulate(run())


def error_rate(texts: Sequence[str], recordings: Sequence[Recording]) -> float:
    """Word errors of all recordings by their words."""
    pairs = zip(recordings, texts, strict=True)
    counted = [score(each.text, text, each.language) for each, text in pairs]
    return sum(errors for errors, _ in counted) / max(1, sum(words for _, words in counted))


def final_figures(times: Sequence[tuple[float, float]]) -> dict[str, float]:
    """From pairs of (our final transcript, the peer's whole one) in s, one for each utterance."""
    if not times:
        return {}
    ours, theirs = (median(each) for each in zip(*times, strict=True))
    return {
        "final_transcript_vs_whole": theirs / ours,
        "final_transcript_ms": 1000 * ours,
        "final_transcript_ms_max": 1000 * max(each for each, _ in times),
        "whole_transcript_ms": 1000 * theirs,
    }


def measure_words(
    parts: Parts,
    recordings: Sequence[Recording],
    sounds: Sequence[Samples],
    whole: Callable[[Samples], object],
    progress: Callable[[str], None],
) -> dict[str, float]:
    """Word errors of recordings heard as they come, and what is final of them when.

    A recording with long pauses is several utterances, whose texts are joined. ``whole``, the peer,
    transcribes each utterance of more than 5 s right after it was heard.
    """
    texts, changed, times = [], 0, []
    for number, samples in enumerate(sounds, start=1):
        progress(f"words, recording {number} of {len(sounds)}")
        utterances = hear(parts, samples)
        texts.append(" ".join(each.text for each in utterances))
        changed += sum(each.changed for each in utterances)
        for each in utterances:
            if each.seconds > _LONG_S:
                begun = perf_counter()
                whole(samples[each.begin : each.end])
                times.append((each.final_s, perf_counter() - begun))
    figures = {"streaming_wer": error_rate(texts, recordings), "commits_changed": changed}
    return figures | final_figures(times)


def faster_whisper(folder: Path, threads: int, beam: int) -> Callable[[Samples], str]:
    """One call of faster-whisper, as precise as our recogniser: int8 weights."""
    from faster_whisper import WhisperModel

    model: Any = WhisperModel(str(folder), device="cpu", compute_type="int8", cpu_threads=threads)

    def transcribe(samples: Samples) -> str:
        segments, _ = model.transcribe(samples, language="en", beam_size=beam)
        return "".join(segment.text for segment in segments)

    return transcribe


def minute_of(sounds: Sequence[Samples]) -> Samples:
    """One minute of speech out of recordings, begun anew if they are shorter."""
    joined = np.concatenate(sounds)
    return np.resize(joined, _MINUTE)


@dataclass(frozen=True)
class Growth:
    """What a minute costs in s at the beginning and at the end, and bytes held then."""

    first_s: float
    last_s: float
    first_bytes: int
    last_bytes: int

    def figures(self) -> dict[str, float]:
        """The growth by name; ``monologue_growth`` is a ratio, and 1 means none."""
        return {
            "monologue_growth": self.last_s / self.first_s,
            "monologue_bytes_growth": self.last_bytes - self.first_bytes,
            "monologue_cost_per_second": self.last_s / 60,
        }


def measure_monologue(
    parts: Parts, minute: Samples, minutes: int, progress: Callable[[str], None]
) -> Growth:
    """The same minute said again and again in one turn: what the first and the last ones cost.

    Of both ends of it the median of three minutes counts, as a machine is busy now and then.
    """
    marks: list[tuple[float, int]] = []

    lows: list[int] = []

    def on_chunk(position: int) -> None:
        lows.append(tracemalloc.get_traced_memory()[0])
        if position >= len(marks) * len(minute):
            progress(f"monologue, minute {len(marks)} of {minutes}")
            marks.append((perf_counter(), min(lows[-_LATEST:])))
            lows.clear()

    async def run() -> None:
        hearer = Hearer(ear_of(parts, WHOLE_TURNS, _MONOLOGUE_MS), on_chunk)
        on_chunk(0)
        await hearer.hear(np.tile(minute, minutes))

    tracemalloc.start()
    try:
        simulate(run())
    finally:
        tracemalloc.stop()
    spent = [after[0] - before[0] for before, after in pairwise(marks)]
    first, last = median(spent[:_ENDS]), median(spent[-_ENDS:])
    return Growth(first, last, marks[1][1], marks[-1][1])
