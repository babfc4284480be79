"""The load benchmark: its arithmetic, its talker, and the whole of it on fake models."""

import asyncio
import json
import random
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from assistant.bench import load
from assistant.bench.load import (
    KEYS,
    LoadOptions,
    LoadReport,
    measure_load,
    percentile,
    read_utterances,
    slope_per_min,
)
from assistant.bench.load_server import Settings, serve_command, serving
from assistant.bench.load_talker import Microphone, RefusedError, Talker, Utterance
from assistant.errors import ConfigError, VoxsightError
from tests.assistant.session_fakes import say, silence

REPOSITORY = Path(__file__).parents[2]


def fake_command(settings: Settings, folder: Path) -> Sequence[str]:
    """Serves fake models instead of real ones."""
    return (sys.executable, "-m", "tests.server.serve_fake", json.dumps(settings), "0")


def question() -> Utterance:
    return Utterance.of(np.concatenate([silence(0.2), say("what is this"), silence(0.1)]))


def test_a_percentile_is_one_of_the_values() -> None:
    values = [float(n) for n in range(1, 101)]
    random.Random(1).shuffle(values)
    assert percentile(values, 0.95) == 95.0
    assert percentile([3.0], 0.95) == 3.0
    assert percentile([1.0, float("inf")], 0.95) == float("inf")


def test_the_slope_leaves_the_warm_up_out() -> None:
    growing = [(float(s), 1000.0 if s < 20 else 500.0 + 2.0 * s) for s in range(0, 101, 5)]
    assert slope_per_min(growing, 0.2) == pytest.approx(120.0)
    assert slope_per_min([(0.0, 5.0)], 0.2) == 0.0


def test_speech_is_found_in_a_recording() -> None:
    said = question()
    assert said.begin / 24_000 == pytest.approx(0.2, abs=0.02)
    assert said.end / 24_000 == pytest.approx(0.2 + 3 * 0.31, abs=0.03)
    with pytest.raises(VoxsightError, match="silent"):
        Utterance.of(silence(1.0))


def test_a_microphone_sends_every_sample_once_and_knows_when() -> None:
    said, sent = question(), bytearray()

    class Clock:
        at = 50.0

        def __call__(self) -> float:
            return self.at

    clock = Clock()
    microphone = Microphone(None, clock)  # type: ignore[arg-type]
    microphone.say(said)
    while len(sent) < len(said.pcm):
        sent += microphone._chunk()
        clock.at += 0.04
    assert bytes(sent[: len(said.pcm)]) == said.pcm
    assert not any(microphone._chunk())
    # The first sample of a chunk was spoken when its last one is sent, less its length.
    assert microphone.began_at == pytest.approx(50.0 + said.begin / 24_000, abs=0.041)
    assert microphone.ended_at == pytest.approx(50.0 + said.end / 24_000, abs=0.041)


def test_only_short_english_recordings_are_spoken(tmp_path: Path) -> None:
    for name, seconds in (("short", 2), ("long", 9)):
        tone = 0.1 * np.sin(np.arange(seconds * 16_000) / 10)
        soundfile.write(tmp_path / f"{name}.wav", tone, 16_000)
    table = tmp_path / "transcripts.tsv"
    table.write_text("file\tlanguage\ttext\nshort.wav\ten\ta\nlong.wav\ten\tb\n")
    assert len(read_utterances(tmp_path)) == 1
    table.write_text("file\tlanguage\ttext\nlong.wav\ten\tb\n")
    with pytest.raises(ConfigError, match="found none"):
        read_utterances(tmp_path)
    assert read_utterances(None)


def test_the_report_always_has_its_keys() -> None:
    summary = LoadReport({"first_partial_ms": float("inf"), "soak_cycles": 3.0}).summary()
    assert set(KEYS) < set(summary)
    assert summary["first_partial_ms"] == "never"
    json.loads(json.dumps(summary, allow_nan=False))


@pytest.mark.parametrize("wrong", [{"most_sessions": 0}, {"turns": 0}, {"soak_min": -1.0}])
def test_options_are_checked(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        LoadOptions(**wrong)


def test_the_command_reads_the_settings_it_is_given(tmp_path: Path) -> None:
    from assistant.server.config import load_server_config

    line = serve_command({"max_sessions": 3, "host": "127.0.0.2"}, tmp_path)
    config = load_server_config(Path(line[-1]))
    assert (config.max_sessions, config.host) == (3, "127.0.0.2")


def test_a_server_that_ends_at_once_is_told() -> None:
    def broken(settings: Settings, folder: Path) -> Sequence[str]:
        return (sys.executable, "-c", "pass")

    with pytest.raises(VoxsightError, match="ended before it was ready"), serving({}, broken):
        pass


def test_all_of_it_on_fake_models(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(REPOSITORY)
    monkeypatch.setattr(load, "read_utterances", lambda data: [question()])
    told: list[str] = []
    options = LoadOptions(most_sessions=2, turns=1, soak_min=0.05)
    report = measure_load(None, options, progress=told.append, command=fake_command).summary()
    assert report["sessions_p95_under_2s"] == 2
    assert report["refused_at"] == 3
    assert (report["fds_delta"], report["tasks_delta"]) == (0, 0)
    for name in ("speech_first_byte_ms", "first_partial_ms", "first_sound_ms_p95_when_full"):
        assert report[name] > 0, name
    assert report["soak_cycles"] >= 2
    assert "one more than 2" in told


def test_a_full_server_refuses_a_talker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)
    settings: dict[str, Any] = {"max_sessions": 1, "max_session_memory_bytes": 1000}
    with (
        serving(settings, fake_command) as server,
        pytest.raises(RefusedError, match="as many as it can"),
    ):
        asyncio.run(Talker(server.realtime_url, [question()]).converse(1))
