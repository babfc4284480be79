import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from assistant.jobs.dub import hear as module
from assistant.jobs.dub.hear import HearOptions, hear
from assistant.jobs.dub.regions import RegionRules
from audio.asr_types import RecogniseOptions, Segment, Transcript, Word
from audio.pcm import Sound
from tests.jobs.test_regions import LoudnessVad

RATE = 16_000


class FakeRecogniser:
    """Hears one word in each second, and a language by the loudness."""

    multilingual = True

    def __init__(self) -> None:
        self.lengths: list[float] = []
        self.options: list[RecogniseOptions] = []

    def check(self, options: RecogniseOptions) -> None:
        assert options.language in (None, "en", "es")

    def transcribe(self, sound: Sound, options: RecogniseOptions) -> Transcript:
        self.lengths.append(round(sound.duration_s, 1))
        self.options.append(options)
        count = max(1, round(sound.duration_s))
        words = tuple(Word(at - 0.1, at + 0.8, f" w{at}", 0.9) for at in range(count))
        segments = (Segment(0, count, "", words),)
        return Transcript("", "es", 1.0, sound.duration_s, segments)


@pytest.fixture(autouse=True)
def by_loudness(monkeypatch: pytest.MonkeyPatch) -> None:
    def languages(recogniser: object, window: np.ndarray) -> dict[str, float]:
        return {"en": 0.99} if np.abs(window).max() > 0.6 else {"es": 0.99}

    monkeypatch.setattr(module, "encoded", lambda recogniser, samples, tail_s: samples)
    monkeypatch.setattr(module, "languages_of", languages)


def write(path: Path, *parts: tuple[float, float]) -> Path:
    random = np.random.default_rng(0)
    samples = [random.uniform(-level, level, round(s * RATE)) for s, level in parts]
    soundfile.write(path, np.concatenate(samples), RATE, "PCM_16")
    return path


def listen(path: Path, **options: Any) -> tuple[Any, FakeRecogniser]:
    recogniser = FakeRecogniser()
    heard = hear(path, recogniser, LoudnessVad(), HearOptions(**options))  # type: ignore[arg-type]
    return heard, recogniser


def test_one_language_is_heard_together(tmp_path: Path) -> None:
    path = write(tmp_path / "a.flac", (1, 0), (2, 0.3), (0.6, 0), (1, 0.3), (0.6, 0), (2, 0.9))
    heard, recogniser = listen(path)
    assert [region.language for region in heard.regions] == ["es", "es", "en"]
    assert recogniser.lengths == [pytest.approx(4.0, abs=0.1), pytest.approx(2.3, abs=0.15)]
    assert {o.language for o in recogniser.options} == {"es", "en"}
    assert all(o.temperatures == (0.0,) for o in recogniser.options)
    assert heard.duration_ms == 7_200
    texts = [[word.text for word in region.words] for region in heard.regions]
    assert texts == [[" w0", " w1", " w2"], [" w3"], [" w0", " w1"]]


def test_words_lie_within_their_region(tmp_path: Path) -> None:
    heard, _ = listen(write(tmp_path / "a.flac", (1, 0), (3, 0.3), (1.2, 0), (1, 0.3)))
    edges = [t for region in heard.regions for t in (region.start_ms, region.end_ms)]
    assert edges == pytest.approx([1_000, 4_000, 5_200, 6_200], abs=10)
    for region in heard.regions:
        assert region.words[0].start_ms == region.start_ms
        assert region.words[-1].end_ms == region.end_ms
        times = [t for word in region.words for t in (word.start_ms, word.end_ms)]
        assert times == sorted(times)


def test_long_pauses_and_long_speech_part(tmp_path: Path) -> None:
    path = write(tmp_path / "a.flac", (2, 0.3), (1.5, 0), (2, 0.3))
    _, recogniser = listen(path)
    assert len(recogniser.lengths) == 2
    path = write(tmp_path / "b.flac", *[(10, 0.3), (0.5, 0)] * 4)
    _, recogniser = listen(path)
    assert len(recogniser.lengths) == 2 and max(recogniser.lengths) < 28.5


def test_the_language_may_be_given(tmp_path: Path) -> None:
    path = write(tmp_path / "a.flac", (1, 0.9), (0.5, 0), (1, 0.3))
    heard, recogniser = listen(path, language="es", rules=RegionRules(pause_s=0.2))
    assert [(r.language, r.probability) for r in heard.regions] == [("es", 1.0)] * 2
    assert len(recogniser.lengths) == 1


def test_silence(tmp_path: Path) -> None:
    heard, recogniser = listen(write(tmp_path / "a.flac", (2, 0)))
    assert heard.regions == () and heard.duration_ms == 2_000 and not recogniser.lengths


def test_not_understood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    empty = Transcript("", "es", 1.0, 1.0, ())
    monkeypatch.setattr(FakeRecogniser, "transcribe", lambda *_: empty)
    heard, _ = listen(write(tmp_path / "a.flac", (1, 0.3)))
    assert len(heard.regions) == 1 and heard.regions[0].words == ()


def test_what_was_heard_before_is_not_heard_again(tmp_path: Path) -> None:
    path = write(tmp_path / "a.flac", (1, 0), (2, 0.3), (1.6, 0), (1, 0.9), (1.6, 0), (2, 0.3))
    whole, undisturbed = listen(path)
    store: dict[str, str] = {}

    class Killed(FakeRecogniser):
        def transcribe(self, sound: Sound, options: RecogniseOptions) -> Transcript:
            if len(self.lengths) == 2:
                raise KeyboardInterrupt
            return super().transcribe(sound, options)

    def keep(piece: Mapping[str, Any], make: Callable[[], Any]) -> Any:
        name = json.dumps(piece)
        if name not in store:
            store[name] = json.dumps(make())
        return json.loads(store[name])

    def run(recogniser: FakeRecogniser) -> Any:
        return hear(path, recogniser, LoudnessVad(), keep=keep)  # type: ignore[arg-type]

    first, second = Killed(), FakeRecogniser()
    with pytest.raises(KeyboardInterrupt):
        run(first)
    assert len(store) == 3 + 2  # three languages, and the words of two
    assert run(second) == whole
    assert first.lengths + second.lengths == undisturbed.lengths
    # Another language is another question.
    made = len(store)
    hear(path, second, LoudnessVad(), HearOptions(language="en"), keep=keep)  # type: ignore[arg-type]
    assert len(store) > made
