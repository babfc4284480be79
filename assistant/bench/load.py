"""How many talk at once: sessions until answers get slow, refusals beyond, and a long soak."""

import asyncio
import random
import statistics
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from math import ceil, isfinite
from pathlib import Path
from typing import Any

from websockets.exceptions import WebSocketException

from assistant.assets import asset
from assistant.bench.load_server import Command, Health, ServerProcess, serve_command, serving
from assistant.bench.load_talker import RefusedError, Talker, Turn, Utterance
from assistant.bench.voice import NOT_RUN
from assistant.errors import ConfigError
from assistant.evals.asr import read_transcripts
from audio.media import read_sound

#: What a report always names.
KEYS = (
    "sessions_p95_under_2s",
    "refused_at",
    "soak_rss_slope_mb_per_min",
    "fds_delta",
    "tasks_delta",
    "speech_first_byte_ms",
    "first_partial_ms",
)
Figures = dict[str, float]
Progress = Callable[[str], None]

#: In place of a time that did not end: JSON has no infinity.
_NEVER = "never"
_SLOW_S = 2.0
_SPEECH_ROUNDS = 7
_LONG_TEXT = " ".join(["The quick brown fox jumps over the lazy dog, and then it runs away."] * 20)
#: Recordings of such lengths are a question, no lecture.
_SHORTEST_S, _LONGEST_S = 1.0, 8.0
_SAMPLE_S = 5.0
#: At the start of a soak memory still grows into its working size.
_WARM_UP = 0.2
_SEED = 20


@dataclass(frozen=True)
class LoadOptions:
    """How much to measure.

    most_sessions: where the search ends; turns: of each talker; soak_min: minutes, 0 for none.

    Raises ConfigError for a value out of range.
    """

    most_sessions: int = 16
    turns: int = 8
    soak_min: float = 10.0

    def __post_init__(self) -> None:
        if self.most_sessions < 1 or self.turns < 1 or self.soak_min < 0:
            raise ConfigError(
                "Expected at least one session and one turn, and no negative time, got "
                f"{self.most_sessions}, {self.turns} and {self.soak_min:g}."
            )


@dataclass(frozen=True)
class LoadReport:
    """What was measured, by name."""

    figures: Mapping[str, float]

    def summary(self) -> dict[str, Any]:
        """The report for one line of JSON: all of ``KEYS``, then whatever else was measured."""
        measured = {
            name: float(f"{value:.4g}") if isfinite(value) else _NEVER
            for name, value in self.figures.items()
        }
        return {key: measured.get(key, NOT_RUN) for key in KEYS} | measured


def measure_load(
    data: Path | None = None,
    options: LoadOptions | None = None,
    *,
    progress: Progress = lambda _: None,
    command: Command = serve_command,
) -> LoadReport:
    """Measure a server in a process of its own, with talkers in this one.

    Args:
        data: folder of recordings with transcripts.tsv, of which the short English ones are
            spoken; by default the demo's question.
        options: how much to measure.
        progress: told in words what is being done.
        command: gives the command line of the server.

    Raises:
        VoxsightError: the recordings or the server are not there.
    """
    options = options or LoadOptions()
    utterances = read_utterances(data)
    with serving({"max_sessions": options.most_sessions + 1}, command) as server:
        figures = _first_bytes(server, progress)
        held, rising = asyncio.run(_rise(server, utterances, options, progress))
    figures |= rising | {"sessions_p95_under_2s": held}
    sessions = max(1, held)
    with serving({"max_sessions": sessions}, command) as server:
        progress(f"one more than {sessions}")
        figures |= asyncio.run(_one_more(server, utterances, sessions, options.turns))
        if options.soak_min:
            figures |= asyncio.run(
                _soak(server, utterances, sessions, options.soak_min * 60.0, progress)
            )
    return LoadReport(figures)


def read_utterances(data: Path | None) -> list[Utterance]:
    """What the talkers say; ConfigError if there is nothing short enough."""
    if data is None:
        return [Utterance.of(read_sound(asset("demo/question.wav")).samples)]
    sounds = [
        read_sound(recording.path)
        for recording in read_transcripts(data)
        if recording.language == "en"
    ]
    short = [sound for sound in sounds if _SHORTEST_S <= sound.duration_s <= _LONGEST_S]
    if not short:
        raise ConfigError(
            f"Expected English recordings of {_SHORTEST_S:g} to {_LONGEST_S:g} s in {data}, found "
            "none; name another folder."
        )
    return [Utterance.of(sound.samples) for sound in short]


def _first_bytes(server: ServerProcess, progress: Progress) -> Figures:
    progress("first byte of speech")
    times = [server.speech_first_byte_s(_LONG_TEXT) for _ in range(1 + _SPEECH_ROUNDS)]
    return {"speech_first_byte_ms": 1000 * statistics.median(times[1:])}


# Sessions until answers get slow


async def _rise(
    server: ServerProcess, utterances: Sequence[Utterance], options: LoadOptions, tell: Progress
) -> tuple[int, Figures]:
    """The most sessions whose p95 is under two seconds, and the figures of each number."""
    figures: Figures = {}
    for sessions in range(1, options.most_sessions + 1):
        tell(f"{sessions} at once")
        turns = await _talk(server, utterances, sessions, options.turns)
        p95_s = percentile([turn.first_sound_s for turn in turns], 0.95)
        figures[f"first_sound_ms_p95_of_{sessions}"] = 1000 * p95_s
        if sessions == 1:
            partials = [turn.first_partial_s for turn in turns]
            figures["first_partial_ms"] = 1000 * statistics.median(partials)
        if p95_s > _SLOW_S:
            return sessions - 1, figures
    return options.most_sessions, figures


async def _talk(
    server: ServerProcess, utterances: Sequence[Utterance], sessions: int, turns: int
) -> list[Turn]:
    """All turns of so many talkers, who begin at different moments."""
    chance = random.Random(_SEED)

    async def one(number: int) -> list[Turn]:
        await asyncio.sleep(chance.random() * 4.0 * (sessions > 1))
        order = [*utterances[number % len(utterances) :], *utterances]
        return await Talker(server.realtime_url, order).converse(turns)

    told = await asyncio.gather(*(one(number) for number in range(sessions)))
    return [turn for turns_of_one in told for turn in turns_of_one]


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest of the values that at least this share of them does not exceed."""
    return sorted(values)[max(0, ceil(share * len(values)) - 1)]


# One more than fits


async def _one_more(
    server: ServerProcess, utterances: Sequence[Utterance], sessions: int, turns: int
) -> Figures:
    """Whether one more is refused at once, and whether those who talk notice."""
    talking = asyncio.create_task(_talk(server, utterances, sessions, turns))
    while (await asyncio.to_thread(server.health)).sessions < sessions:
        await asyncio.sleep(0.1)
    began = time.perf_counter()
    figures: Figures = {}
    try:
        await Talker(server.realtime_url, utterances).converse(1)
    except RefusedError:
        figures["refused_at"] = sessions + 1
        figures["refused_ms"] = 1000 * (time.perf_counter() - began)
    p95_s = percentile([turn.first_sound_s for turn in await talking], 0.95)
    return figures | {"first_sound_ms_p95_when_full": 1000 * p95_s}


# A long time


async def _soak(
    server: ServerProcess,
    utterances: Sequence[Utterance],
    sessions: int,
    seconds: float,
    tell: Progress,
) -> Figures:
    """Connect, talk and hang up in all manners; then everything is as it was."""
    before = await _at_rest(server)
    began = time.monotonic()
    cycles = 0

    async def one(number: int) -> None:
        nonlocal cycles
        chance = random.Random(_SEED + number)
        while time.monotonic() - began < seconds:
            # Some end in order; most are cut off while they speak, wait, or hear the reply.
            hang_up = None if chance.random() < 0.3 else chance.uniform(0.1, 10.0)
            with suppress(RefusedError, WebSocketException, OSError):
                talker = Talker(server.realtime_url, chance.sample(utterances, len(utterances)))
                await talker.converse(1, hang_up_after_s=hang_up)
            cycles += 1

    async with _sampling(server, tell, seconds) as samples:
        await asyncio.gather(*(one(number) for number in range(sessions)))
    after = await _at_rest(server)
    return {
        "soak_rss_slope_mb_per_min": slope_per_min(samples, _WARM_UP) / 1e6,
        "fds_delta": after.files - before.files,
        "tasks_delta": after.tasks - before.tasks,
        "soak_cycles": cycles,
    }


@asynccontextmanager
async def _sampling(
    server: ServerProcess, tell: Progress, seconds: float
) -> AsyncIterator[list[tuple[float, float]]]:
    """Resident memory over time while the block runs: (s, bytes)."""
    samples: list[tuple[float, float]] = []
    began = time.monotonic()

    async def sample() -> None:
        while True:
            passed = time.monotonic() - began
            samples.append((passed, (await asyncio.to_thread(server.health)).resident_bytes))
            tell(f"soak, {passed / 60:.1f} of {seconds / 60:.1f} minutes")
            await asyncio.sleep(min(_SAMPLE_S, seconds / 10))

    task = asyncio.create_task(sample())
    try:
        yield samples
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _at_rest(server: ServerProcess) -> Health:
    """How the server is when nobody talks and nothing changes any more."""
    last = await asyncio.to_thread(server.health)
    for _ in range(60):
        await asyncio.sleep(1.0)
        now = await asyncio.to_thread(server.health)
        if not now.sessions and (now.files, now.tasks) == (last.files, last.tasks):
            return now
        last = now
    return last


def slope_per_min(samples: Sequence[tuple[float, float]], warm_up: float) -> float:
    """Growth per minute by least squares, of (s, value), without the first share of the time."""
    if not samples:
        return float("nan")
    from_s = samples[-1][0] * warm_up
    kept = [(at / 60.0, value) for at, value in samples if at >= from_s and isfinite(value)]
    times, values = [at for at, _ in kept], [value for _, value in kept]
    if len(set(times)) < 2:
        return 0.0
    return statistics.linear_regression(times, values).slope
