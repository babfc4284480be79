from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from audio.asr import Recogniser, Transcript
from audio.asr_batch import BatchOptions, transcribe_fast, transcribe_many
from audio.asr_windows import Cutting
from audio.errors import AudioError
from audio.media import read_sound
from audio.pcm import Samples, Sound, join, silence
from audio.vad import BLOCK, SileroVad, VadState
from audio.whisper_tokens import WhisperTokens
from tests.audio.whisper_fakes import FakeWhisper, Result, byte_tokens, spoken

TOKENS = byte_tokens()
ENGLISH = byte_tokens(multilingual=False)
#: One window a batch, so that the scripted model, which knows no batches, can answer.
ALONE = BatchOptions(language="en", words=False, together=1)
SHORT = BatchOptions(cutting=Cutting(longest_s=6.0))


class LoudnessVad(SileroVad):
    """Takes for speech what is not silence."""

    def __init__(self) -> None:
        super().__init__(None)

    def push(self, state: VadState, samples: Samples) -> Samples:
        blocks = samples[: len(samples) // BLOCK * BLOCK].reshape(-1, BLOCK)
        loud: Samples = (np.abs(blocks).mean(axis=1) > 0.01).astype(np.float32)
        return loud


@dataclass
class OneWorker(FakeWhisper):
    num_workers: int = 1
    device: str = "cpu"
    compute_type: str = "int8_float32"


def noise(seconds: float) -> Sound:
    samples = np.random.default_rng(0).normal(size=round(seconds * 16_000)) * 0.1
    return Sound(samples.astype(np.float32))


def scripted(
    *results: Result, tokens: WhisperTokens = TOKENS, language: str = "de"
) -> tuple[OneWorker, Recogniser]:
    model = OneWorker(lambda call, *_: results[min(call, len(results) - 1)], language)
    return model, Recogniser(model, tokens)


def hear(recogniser: Recogniser, sound: Sound, options: BatchOptions = ALONE) -> Any:
    return transcribe_fast(recogniser, sound, options, vad=LoudnessVad())


def test_windows_are_decoded_longest_first_and_put_in_order() -> None:
    model, recogniser = scripted(
        spoken(TOKENS, 0.0, " long", 5.0), spoken(TOKENS, 0.0, " short", 2.0)
    )
    sound = join([noise(2), silence(3), noise(5), silence(1)])
    done: list[float] = []
    transcript = transcribe_fast(recogniser, sound, ALONE, vad=LoudnessVad(), progress=done.append)
    assert transcript.text == "short long"
    assert [(s.start, s.end) for s in transcript.segments] == [
        (0.0, 2.0),
        (pytest.approx(4.8, abs=0.05), pytest.approx(9.8, abs=0.05)),
    ]
    # whole seconds: 5.4 s and 2.2 s of sound, each with 2 s of silence after it
    assert [shape[2] for shape in model.shapes] == [800, 500]
    assert sum(done) == pytest.approx(sound.duration_s)


def test_a_loop_is_decoded_once_more_in_a_full_window_with_a_beam() -> None:
    calls: list[dict[str, Any]] = []
    results = [spoken(TOKENS, 0.0, " ha" * 60, 3.0), spoken(TOKENS, 0.0, " hello", 3.0)]

    def answer(call: int, shape: tuple[int, ...], options: dict[str, Any]) -> Result:
        calls.append({"frames": shape[2], "beam": options["beam_size"]})
        return results[call]

    transcript = hear(Recogniser(OneWorker(answer), TOKENS), noise(3))
    assert transcript.text == "hello"
    assert calls == [{"frames": 500, "beam": 1}, {"frames": 3000, "beam": 5}]


def test_a_loop_that_stays_is_cut() -> None:
    model, recogniser = scripted(spoken(TOKENS, 0.0, " ha" * 60, 3.0))
    assert hear(recogniser, noise(3)).text == "ha"
    assert len(model.shapes) == 2


def test_speech_after_the_end_of_the_text_is_heard_again() -> None:
    model, recogniser = scripted(
        spoken(TOKENS, 0.0, " one", 4.0),  # closed, though six more seconds are speech
        spoken(TOKENS, 0.0, " two", 6.0),
    )
    transcript = hear(recogniser, noise(10))
    assert [(s.start, s.end, s.text) for s in transcript.segments] == [
        (0.0, 4.0, "one"),
        (4.0, 10.0, "two"),
    ]
    assert [shape[2] for shape in model.shapes] == [1200, 800]


def test_silence_after_the_end_of_the_text_is_not() -> None:
    model, recogniser = scripted(spoken(TOKENS, 0.0, " one", 4.0))
    sound = join([noise(4), silence(1.2), noise(0.5), silence(1)])
    assert hear(recogniser, sound).text == "one"
    assert len(model.shapes) == 1


def test_a_model_that_never_moves_on_is_left() -> None:
    model, recogniser = scripted(spoken(TOKENS, 0.0, " one", 0.2, 0.2))
    assert hear(recogniser, noise(10)).text == "one"
    assert len(model.shapes) == 1


def test_text_in_the_silence_after_a_window_is_dropped() -> None:
    _, recogniser = scripted(spoken(TOKENS, 0.0, " one", 3.0, 3.5, " one", 4.5))
    assert hear(recogniser, noise(3)).text == "one"


def test_what_the_model_takes_for_silence_has_no_text() -> None:
    _, recogniser = scripted(spoken(TOKENS, 0.0, " you", 3.0, score=-1.5, no_speech=0.9))
    transcript = hear(recogniser, noise(3))
    assert (transcript.text, transcript.segments) == ("", ())


def test_no_speech_and_no_length_give_an_empty_transcript() -> None:
    model, recogniser = scripted(spoken(TOKENS, " never"))
    options = replace(ALONE, language=None)
    for sound in (silence(100), silence(0)):
        transcript = hear(recogniser, sound, options)
        assert (transcript.text, transcript.language_probability) == ("", 0.0)
        assert transcript.duration_s == sound.duration_s
    assert not model.shapes
    assert transcribe_many(recogniser, [], vad=LoudnessVad()) == []


def test_the_language_is_told_by_the_first_speech_which_is_encoded_once() -> None:
    model, recogniser = scripted(spoken(TOKENS, 0.0, " eins", 3.0))
    transcript = hear(recogniser, noise(3), replace(ALONE, language=None))
    assert (transcript.language, transcript.language_probability) == ("de", 0.75)
    assert transcript.segments[0].language is None
    assert model.prompts == [TOKENS.prompt("de", "transcribe")]
    assert len(model.shapes) == 1


def test_each_window_may_have_its_language() -> None:
    @dataclass
    class Polyglot(OneWorker):
        def detect_language(self, encoded: Any) -> list[list[tuple[str, float]]]:
            """Long windows are German, short ones Chinese, the shortest anything."""
            frames = encoded[2]
            sure = 0.9 if frames > 400 else 0.3
            code = "de" if frames > 600 else "zh" if frames > 400 else "en"
            return [[(f"<|{code}|>", sure)]]

    model = Polyglot(lambda *_: spoken(TOKENS, 0.0, " one", 9.0))
    sound = join([noise(8), silence(3), noise(2.5), silence(3), noise(1), silence(1)])
    options = replace(ALONE, language=None, language_per_window=True)
    transcript = hear(Recogniser(model, TOKENS), sound, options)
    assert [s.language for s in transcript.segments] == ["de", "zh", "de"]
    assert transcript.language == "de"


def test_an_english_model_knows_the_answer() -> None:
    _, recogniser = scripted(spoken(ENGLISH, 0.0, " one", 3.0), tokens=ENGLISH)
    options = BatchOptions(together=1)
    transcript = hear(recogniser, noise(3), options)
    assert (transcript.language, transcript.language_probability) == ("en", 1.0)
    assert [w.text for w in transcript.segments[0].words] == [" one"]


def test_full_windows_where_no_tail_is_wanted() -> None:
    model, recogniser = scripted(spoken(TOKENS, 0.0, " one", 3.0))
    hear(recogniser, noise(3), replace(ALONE, tail_s=None))
    assert [shape[2] for shape in model.shapes] == [3000]


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({"temperatures": (0.0, 0.2)}, "temperature 0 alone"),
        ({"condition_on_previous_text": True}, "out of order"),
        ({"language": "de", "language_per_window": True}, "got both"),
        ({"together": 0}, "1 or more windows together"),
        ({"beam_size": 0}, "beam size"),
    ],
)
def test_bad_options_are_refused(fields: dict[str, Any], wrong: str) -> None:
    with pytest.raises(AudioError, match=wrong):
        BatchOptions(**fields)


def test_bad_sounds_and_languages_are_refused_before_anything_is_heard() -> None:
    model, recogniser = scripted(spoken(TOKENS, " never"))
    with pytest.raises(AudioError, match="16000 Hz, got 8000"):
        transcribe_many(recogniser, [noise(1), Sound(noise(1).samples, 8000)])
    with pytest.raises(AudioError, match="does not know the language 'xx'"):
        transcribe_many(recogniser, [noise(1)], BatchOptions(language="xx"))
    assert not model.shapes


@pytest.fixture(scope="module")
def folder(model_folder: Callable[[str], Path]) -> Path:
    return model_folder("whisper-tiny.en")


@pytest.fixture(scope="module")
def sounds(model_folder: Callable[[str], Path]) -> list[Sound]:
    """Three short recordings, and all of them as one with pauses."""
    files = sorted((model_folder("sample-speech") / "en").glob("*.wav"))[:3]
    alone = [read_sound(file) for file in files]
    return [*alone, join([alone[0], silence(2.5), alone[1], silence(0.4), alone[2]])]


@pytest.fixture(scope="module")
def alone(folder: Path, sounds: list[Sound]) -> list[Transcript]:
    """Each sound recognised by itself."""
    recogniser = Recogniser.load(folder, threads=1)
    assert (recogniser.workers, recogniser.repeatable_in_batches) == (1, True)
    return [transcribe_fast(recogniser, sound, SHORT) for sound in sounds]


@pytest.mark.models
def test_a_transcript_depends_on_neither_company_nor_workers(
    folder: Path, sounds: list[Sound], alone: list[Transcript]
) -> None:
    two = Recogniser.load(folder, threads=1, workers=2)
    assert two.workers == 2
    assert transcribe_many(two, sounds[::-1], SHORT)[::-1] == alone
    assert transcribe_many(two, sounds, replace(SHORT, together=2)) == alone


@pytest.mark.models
def test_words_spell_the_text_within_the_sound(
    sounds: list[Sound], alone: list[Transcript]
) -> None:
    for sound, transcript in zip(sounds, alone, strict=True):
        words = [w for segment in transcript.segments for w in segment.words]
        assert "".join(w.text for w in words).split() == transcript.text.split()
        assert all(0 <= w.start <= w.end <= sound.duration_s for w in words)
        assert all(a.end <= b.start for a, b in pairwise(words))
    assert "brown fox" in alone[2].text.lower()
    assert "brown fox" in alone[3].text.lower()


@pytest.mark.models
def test_sums_of_fractions_are_not_mixed(folder: Path) -> None:
    exact = Recogniser.load(folder, threads=1, compute_type="float32")
    assert not exact.repeatable_in_batches
    with pytest.raises(AudioError, match="1 or more threads and workers"):
        Recogniser.load(folder, threads=1, workers=0)
