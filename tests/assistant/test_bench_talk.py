"""The conversation benchmark: its arithmetic on constructed data, its parts on fakes."""

import asyncio
import shutil
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from assistant.assets import asset
from assistant.bench import talk, talk_answer, talk_clock, talk_conversations, talk_overlap
from assistant.bench.talk import KEYS, PARTS, TalkReport, measure_talk, merged
from assistant.bench.talk_answer import Silence, last_answer, partials_changed, silence_figures
from assistant.bench.talk_clock import LateWorker, loop_clock, simulate
from assistant.bench.talk_hearing import (
    Growth,
    Utterance,
    error_rate,
    final_figures,
    hear,
    measure_monologue,
    measure_words,
    minute_of,
)
from assistant.bench.talk_overlap import (
    Overlap,
    history_errors,
    late_sound,
    overlap,
    overlap_figures,
    prepared,
    speak_over,
    stop_delays,
    words_played,
)
from assistant.bench.talk_sequential import Loop
from assistant.config import load_settings
from assistant.errors import ConfigError, VoxsightError
from assistant.evals.asr import Recording
from assistant.events import Partial, ReplySound, ReplyStopped, ReplyText, SpeechBegan, TurnEnded
from assistant.loading import Models
from assistant.rehearsal import Moment
from assistant.session import Parts
from audio.pcm import Samples, Sound
from audio.vad import SileroVad
from fusion.prompt import PromptBuilder
from tests.assistant import session_fakes
from tests.assistant.session_fakes import REPLY_WORD, say, silence
from tests.audio.tiny_voice import write_tiny_voice
from tests.fusion.tiny import HIDDEN, tiny_decoder

REPLY = "one two three four five six seven eight nine ten " * 3


def quiet(_: Any) -> None:
    """Progress that nobody watches."""


@pytest.fixture
def parts() -> Parts:
    return session_fakes.Models().parts()


@pytest.fixture
def clean_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(talk_conversations, "_HISS", 0.0)  # the fakes know exact levels only


# The clock


def test_simulated_sleep_takes_no_time_but_moves_the_clock() -> None:
    async def main() -> list[float]:
        clock, seen = loop_clock(), []

        async def nap(seconds: float) -> None:
            await clock.sleep(seconds)
            seen.append(clock.now())

        await asyncio.gather(nap(7200), nap(60), nap(-1))
        return seen

    assert simulate(main()) == pytest.approx([0, 60, 7200])


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes calls that take so many seconds, as far as the benchmark's stopwatch can tell."""
    spent = [0.0]
    monkeypatch.setattr(talk_clock, "perf_counter", lambda: spent[0])

    def of(seconds: float) -> Any:
        def call() -> float:
            spent[0] += seconds
            return seconds

        return call

    return of


def test_results_come_as_late_as_the_work_took_and_workers_take_turns(work: Any) -> None:
    async def main() -> tuple[list[float], float]:
        turn = asyncio.Lock()
        one, other = LateWorker("one", turn), LateWorker("other", turn)
        now, seen = asyncio.get_running_loop().time, []

        async def run(worker: LateWorker, seconds: float) -> None:
            assert await worker.run(work(seconds)) == seconds
            seen.append(now())

        await asyncio.gather(run(one, 2.0), run(other, 3.0), run(one, 1.0))
        return seen, one.busy_s

    seen, busy = simulate(main())
    assert seen == pytest.approx([2, 5, 6])
    assert busy == pytest.approx(3)


def test_work_goes_on_when_its_caller_has_left(work: Any) -> None:
    async def main() -> float:
        worker = LateWorker("one", asyncio.Lock())
        first = asyncio.create_task(worker.run(work(5.0)))
        await asyncio.sleep(1)
        first.cancel()
        await worker.run(work(1.0))
        return asyncio.get_running_loop().time()

    assert simulate(main()) == pytest.approx(6)


# Words


def test_a_recording_with_a_long_pause_is_heard_as_two_utterances(parts: Parts) -> None:
    samples = np.concatenate((say("what is this"), silence(1.5), say("tell me more")))
    utterances = hear(parts, samples)
    assert [each.text for each in utterances] == ["what is this", "tell me more"]
    assert all(0 < each.final_s < 1 for each in utterances)
    assert utterances[0].seconds == pytest.approx(0.93, abs=0.1)
    assert [each.changed for each in utterances] == [0, 0]


def test_a_commit_that_changes_is_seen() -> None:
    def changes(*texts: str) -> int:
        utterance = Utterance(0)
        for text in texts:
            utterance.commit(text)
        return utterance.changed

    assert changes("", "what", "what is", "what is this") == 0
    assert changes("what is", "who is it", "what is") == 2
    assert changes("what is", "what") == 1


def test_errors_are_counted_over_all_words() -> None:
    recordings = [
        Recording(Path("a"), "en", "what is this"),
        Recording(Path("b"), "en", "tell me more about cats"),
    ]
    assert error_rate(["What is this?", "Tell me more. About cats!"], recordings) == 0
    assert error_rate(["What is that?", "Tell me about dogs."], recordings) == pytest.approx(3 / 8)


def test_words_are_measured_over_joined_utterances(parts: Parts) -> None:
    long = "one two three four five six seven eight nine ten " * 2
    samples = [np.concatenate((say("stop"), silence(1.5), say("wait"))), say(long)]
    recordings = [Recording(Path("a"), "en", "stop wait"), Recording(Path("b"), "en", long)]
    peer: list[float] = []
    figures = measure_words(parts, recordings, samples, lambda s: peer.append(len(s)), quiet)
    assert (figures["streaming_wer"], figures["commits_changed"]) == (0, 0)
    assert len(peer) == 1  # only the long utterance
    assert peer[0] == pytest.approx(len(samples[1]), rel=0.1)
    assert figures["final_transcript_vs_whole"] > 0


def test_final_transcripts_are_compared_by_medians() -> None:
    figures = final_figures([(0.1, 1.0), (0.2, 2.0), (0.4, 0.3)])
    assert figures["final_transcript_vs_whole"] == pytest.approx(5.0)
    assert figures["final_transcript_ms_max"] == pytest.approx(400)
    assert final_figures([]) == {}


def test_growth_is_the_last_minute_against_the_first() -> None:
    figures = Growth(2.0, 3.0, 1000, 1500).figures()
    assert (figures["monologue_growth"], figures["monologue_bytes_growth"]) == (1.5, 500)


class Hoarder(session_fakes.Listener):
    """Keeps a copy of all sound, and reads all of it each time."""

    def hear(self, state: Any, samples: Samples, speech_until: int | None = None) -> None:
        super().hear(state, samples.copy(), speech_until)


def test_a_listener_that_keeps_all_sound_is_seen_to_grow() -> None:
    minute = minute_of([say("one two three four five")])[:64_000]
    told: list[str] = []
    parts = session_fakes.Models(Hoarder()).parts()
    growth = measure_monologue(parts, minute, 3, told.append)
    assert growth.last_bytes - growth.first_bytes == pytest.approx(2 * minute.nbytes, rel=0.2)
    assert len(told) == 4
    assert min(growth.first_s, growth.last_s) > 0


# The first sound


def moment(at: float, event: Any) -> Moment:
    return Moment(at, event)


def sound(turn: int) -> ReplySound:
    return ReplySound(turn, 0, Sound(silence(0.1)), ())


def test_the_answer_to_the_last_turn_counts() -> None:
    moments = [
        moment(0.1, SpeechBegan(0)),
        moment(1.0, TurnEnded(1, "and so", 12_000)),
        moment(1.2, sound(1)),
        moment(2.0, SpeechBegan(30_000)),
        moment(4.5, TurnEnded(3, "what is this", 64_000)),
        moment(4.6, sound(1)),
        *(moment(4.7, ReplyText(3, "A")), moment(4.8, ReplyText(3, " cat"))),
    ]
    assert last_answer(moments, 64_100) is None
    answer = last_answer([*moments, moment(5.0, sound(3)), moment(6.0, sound(3))], 64_100)
    assert answer is not None
    assert (answer.begin, answer.end) == (30_000, 64_000)
    assert (answer.decided_at, answer.text_at, answer.sound_at) == (4.5, 4.7, 5.0)


def test_ratios_of_silence_are_taken_per_recording() -> None:
    found = [
        Silence(1.0, 0.5, 0.6, published=5.36, own=3.5),
        Silence(2.0, 0.5, 0.8, published=5.36, own=3.5),
        Silence(0.5, 0.5, 0.5, published=6.36, own=4.5),
    ]
    figures = silence_figures(found, asked=4)
    assert figures["first_sound_ms_median"] == pytest.approx(1000)
    assert figures["first_sound_ms_max"] == pytest.approx(2000)
    assert figures["vs_sequential"] == pytest.approx(6.0)
    assert figures["sequential_ms_median"] == pytest.approx(6000)
    assert figures["vs_sequential_own"] == pytest.approx(4.0)
    assert figures["vs_sequential_own_without_wait"] == pytest.approx(3.5)
    assert figures["first_text_ms_median"] == pytest.approx(600)
    assert figures["unanswered"] == 1


def test_partials_may_begin_anew_only_with_a_new_turn() -> None:
    told = [
        *(SpeechBegan(0), Partial("what", "is"), Partial("what is", "")),
        *(SpeechBegan(9), Partial("", "who"), Partial("who", "")),
    ]
    assert partials_changed([moment(0, event) for event in told]) == 0
    changed = [*told, Partial("whom", ""), Partial("how", "")]
    assert partials_changed([moment(0, event) for event in changed]) == 1


def test_a_recording_without_speech_is_refused() -> None:
    activity: Any = session_fakes.Activity()
    samples = np.concatenate((say("stop"), silence(1)))
    assert talk_answer.end_of_speech(activity, samples) == pytest.approx(4_800, abs=512)
    with pytest.raises(VoxsightError, match="speech"):
        talk_answer.end_of_speech(activity, silence(1))


def test_the_first_sound_is_measured_in_real_time(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SileroVad, "load", session_fakes.Activity)
    asked: list[str] = []

    def transcribe(samples: Samples) -> str:
        asked.append(" ".join(word for word, _, _ in session_fakes.words_in(samples)))
        return asked[-1]

    loop = Loop(transcribe, str.upper, asked.append)
    samples = np.concatenate((say("tell me more"), silence(3)))
    figures = talk_answer.measure_first_sound(parts, loop, loop, [samples], quiet)
    assert 300 < figures["turn_decided_ms_median"] <= figures["first_sound_ms_median"]
    assert (figures["unanswered"], figures["commits_changed"]) == (0, 0)
    assert asked == 2 * ["tell me more", "TELL ME MORE"]
    assert figures["sequential_ms_median"] >= 640


def test_the_second_turn_begins_with_what_is_kept(parts: Parts) -> None:
    decoder = tiny_decoder()
    builder = PromptBuilder(decoder)
    seen = SimpleNamespace(embeddings=torch.randn(3, HIDDEN))
    live = replace(
        parts,
        decoder=decoder,
        prompts=builder,
        new_cache=decoder.new_cache,
        look=lambda _: seen,  # type: ignore[arg-type,return-value]
    )
    figures = talk_answer.measure_second_turn(live, decoder, tokens=20, rounds=1)
    turns = talk_answer.conversation(live.new_memory(), seen, 20)
    assert figures["second_turn_tokens"] == len(builder.build(turns))
    assert figures["second_turn_new_tokens"] < 100 < figures["second_turn_tokens"]
    assert figures["second_turn_ttft_vs_generate"] > 0


def test_the_history_is_as_long_as_it_should_be(parts: Parts) -> None:
    seen: Any = SimpleNamespace(embeddings=torch.randn(3, HIDDEN))
    memory = parts.new_memory()
    turns = talk_answer.conversation(memory, seen, 200)
    assert 200 <= memory.tokens < 250
    assert sum(part is seen.embeddings for turn in turns for part in turn.parts) == 1


# Overlaps


@pytest.mark.usefixtures("clean_room")
@pytest.mark.parametrize(
    ("words", "stops"),
    [("yeah", False), ("okay", False), ("stop", True), ("what about cats", True)],
)
def test_only_a_real_interruption_stops_the_reply(parts: Parts, words: str, stops: bool) -> None:
    found = speak_over(prepared(parts, REPLY), say(words), 1.0)
    assert (found.stopped_s is not None) is stops
    assert found.late_s == 0


@pytest.mark.usefixtures("clean_room")
def test_every_remark_has_a_reply_of_its_own(parts: Parts) -> None:
    remarks = [talk_conversations.Remark(text, say(text)) for text in ("stop", "yeah", "wait")]
    told: list[str] = []
    found = talk_overlap.overlaps(prepared(parts, REPLY), remarks, told.append)
    assert [each.stopped_s is None for each in found] == [False, True, False]
    assert told == ["1 of 3, stop", "2 of 3, yeah", "3 of 3, wait"]


def test_sound_after_a_stop_is_seen() -> None:
    moments = [moment(1.0, sound(1)), moment(1.5, ReplyStopped(1, "")), moment(1.7, sound(2))]
    assert overlap(moments, 1.0) == Overlap(0.5, 0.0)
    assert overlap([*moments, moment(1.75, sound(1))], 1.0).late_s == pytest.approx(0.25)
    assert overlap(moments[:1], 1.0) == Overlap(None)
    assert late_sound([], 1.0, 1) == 0


def test_shares_of_overlaps() -> None:
    figures = overlap_figures(
        [Overlap(None), Overlap(0.7), Overlap(None), Overlap(None)],
        [Overlap(0.5), Overlap(0.9), Overlap(0.6), Overlap(None), Overlap(0.7)],
    )
    assert figures["backchannel_cuts"] == pytest.approx(0.25)
    assert figures["missed_interruptions"] == pytest.approx(0.2)
    assert figures["interruption_ms_median"] == pytest.approx(650)


def test_stops_are_measured_in_real_time(parts: Parts) -> None:
    assert stop_delays(prepared(parts, REPLY), [0.064]) == [0.0]


# A cut in the very middle of a word leaves it out; floats should not decide that.
MIDDLES = [(number + 0.5) * REPLY_WORD / session_fakes.RATE + 1e-6 for number in range(5)]


def test_words_in_the_history_are_words_played(parts: Parts) -> None:
    assert history_errors(prepared(parts, "one two three four five"), MIDDLES) == [0] * 19


def test_a_history_that_is_wrong_is_seen(parts: Parts) -> None:
    late = [middle + 0.6 for middle in MIDDLES]
    assert max(history_errors(prepared(parts, "one two three four five"), late)) == 3
    assert words_played(late, 1.0) == 2


# What is said


def test_a_prepared_voice_says_each_clause_once() -> None:
    fake: Any = session_fakes.Voice()
    made: list[str] = []

    def stream(clause: str) -> Iterator[Any]:
        made.append(clause)
        return session_fakes.Voice()._stream(clause)

    fake.start = lambda: SimpleNamespace(stream=stream)
    voice = talk_conversations.PreparedVoice(fake)
    first = [chunk.samples for chunk in voice.start().stream("one two")]
    again = [chunk.samples for chunk in voice.start().stream("one two")]
    assert made == ["one two"]
    assert np.array_equal(np.concatenate(first), np.concatenate(again))


def test_remarks_differ_in_rate_and_seed(tmp_path: Path) -> None:
    from audio.tts import Voice

    voice = Voice.load(write_tiny_voice(tmp_path).parent)
    agreeing = list(talk_conversations.backchannels(voice, 7))
    assert agreeing[5].text in talk_conversations.HUMS
    assert [each.text for each in agreeing[:2]] == list(talk_conversations.BACKCHANNELS[:2])
    person = say("what is this") + np.float32(0.1)
    others = list(talk_conversations.interruptions(voice, [person], 4))
    assert np.array_equal(others[3].samples, person)
    assert len({len(each.samples) for each in agreeing}) > 1


def test_a_remark_lies_in_a_room_with_a_hiss() -> None:
    sound = talk_conversations.in_a_room(say("stop"), 0.5, 1.0)
    assert len(sound) == 8_000 + len(say("stop")) + 16_000
    assert 5e-4 < np.std(sound[:8_000]) < 2e-3
    assert np.mean(sound[8_000:12_800]) > 0.05


# The report


def test_the_report_names_all_keys() -> None:
    summary = TalkReport({"stop_ms_max": 0.0, "unanswered": 1, "vs_sequential": 4.123456}).summary()
    assert list(summary)[: len(KEYS)] == list(KEYS)
    assert (summary["stop_ms_max"], summary["vs_sequential"]) == (0, 4.123)
    assert (summary["streaming_wer"], summary["unanswered"]) == ("not run", 1)


def test_counts_of_several_parts_are_summed() -> None:
    assert merged([{"commits_changed": 1}, {"a": 2}, {"commits_changed": 2}]) == {
        "commits_changed": 3,
        "a": 2,
    }


def test_only_what_is_asked_for_is_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ran: list[str] = []

    def run(name: str, bench: talk.Bench) -> talk.Figures:
        ran.append(f"{name} {bench.data.name}")
        return {name: 1.0}

    monkeypatch.setattr(talk, "PARTS", {name: partial(run, name) for name in PARTS})
    models = Models(load_settings())
    report = measure_talk(tmp_path, models, only={"history", "words"})
    assert ran == [f"words {tmp_path.name}", f"history {tmp_path.name}"]
    assert report.figures == {"words": 1, "history": 1}
    with pytest.raises(ConfigError, match="singing"):
        measure_talk(tmp_path, models, only=["singing"])


def test_the_voice_is_measured_as_its_own_benchmark_does(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "voice.onnx").touch()
    asked: list[Any] = []

    def measure(voice: str, onnx_file: Path, *, threads: tuple[int, ...], rounds: int) -> Any:
        asked.append((voice, onnx_file.name, threads, rounds))
        figures = {"first_sound_vs_piper": 9.0, "chunked_max_abs": 1e-6, "rtf": 0.1}
        return SimpleNamespace(summary=lambda: figures)

    monkeypatch.setattr("assistant.bench.voice.measure_voice", measure)
    models: Any = SimpleNamespace(
        voice="joe",
        settings=SimpleNamespace(voice="joe", threads=3),
        folder=lambda name: tmp_path if name == "joe" else None,
    )
    figures = talk.voice(talk.Bench(tmp_path, models, None, quiet))  # type: ignore[arg-type]
    assert figures == {"first_sound_vs_piper": 9.0, "chunked_max_abs": 1e-6}
    assert asked == [("joe", "voice.onnx", (3,), talk._VOICE_ROUNDS)]


@pytest.mark.models
def test_a_real_conversation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(talk, "_TRIALS", 2)
    monkeypatch.setattr(talk, "_STOPS", (0.256,))
    shutil.copy(asset("demo/question.wav"), tmp_path)
    table = "file\tlanguage\ttext\nquestion.wav\ten\tWhat do you see in this picture?\n"
    (tmp_path / "transcripts.tsv").write_text(table)
    only = set(PARTS) - {"voice", "second_turn", "monologue"}
    summary = measure_talk(tmp_path, Models(load_settings()), only=only).summary()
    assert summary["commits_changed"] == 0
    assert summary["whole_wer"] <= summary["streaming_wer"] <= 0.2
    assert summary["stop_ms_max"] <= 100
    assert summary["history_word_error_max"] <= 1
    assert (summary["backchannel_cuts"], summary["missed_interruptions"]) == (0, 0)
    assert summary["vs_sequential"] > 0
    assert summary["first_sound_vs_piper"] == "not run"
