from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from audio.asr import RecogniseOptions, Recogniser
from audio.asr_nbest import hypotheses, languages_of
from audio.features.stream import WINDOW_FRAMES
from tests.audio.whisper_fakes import FakeWhisper, Result, byte_tokens

TOKENS = byte_tokens()


def ids(text: str) -> list[int]:
    return TOKENS.encode(text)


def recogniser(*texts: str) -> tuple[Recogniser, FakeWhisper, list[dict[str, Any]]]:
    asked: list[dict[str, Any]] = []

    def answer(call: int, shape: tuple[int, ...], options: dict[str, Any]) -> Result:
        asked.append(options)
        scores = [-0.1 * (at + 1) for at in range(len(texts))]
        return Result([ids(text) for text in texts], scores, 0.0)

    model = FakeWhisper(answer)
    return Recogniser(model, TOKENS), model, asked


def window(model: Recogniser, frames: int = 100) -> Any:
    mel = np.zeros((80, WINDOW_FRAMES), np.float32)
    return model.encode(mel, frames, None)


def test_different_texts_the_likeliest_first() -> None:
    model, fake, asked = recogniser("hello", " hello ", "hi there", "")
    found = hypotheses(model, window(model), language="de", task="translate", count=4)
    assert [one.text for one in found] == ["hello", "hi there"]
    assert [one.avg_logprob for one in found] == [-0.1, -0.3]
    assert not any(one.repeats for one in found)
    assert asked[0]["beam_size"] == asked[0]["num_hypotheses"] == 4
    assert "sampling_temperature" not in asked[0]
    assert fake.prompts == [TOKENS.prompt("de", "translate")]


def test_context_goes_before() -> None:
    model, fake, _ = recogniser("x")
    hypotheses(model, window(model), language="de", task="translate", count=1, context="Good day.")
    assert fake.prompts == [TOKENS.prompt("de", "translate", ids("Good day."))]


def test_repetitions_are_told() -> None:
    model, _, _ = recogniser("the damage " * 12, "fine")
    found = hypotheses(model, window(model), language="de", task="translate", count=2)
    assert [one.repeats for one in found] == [True, False]


def test_languages() -> None:
    model, _, _ = recogniser("x")
    assert languages_of(model, window(model)) == {"de": 0.75}
    english = Recogniser(
        FakeWhisper(lambda *_: Result([], [], 0.0)), byte_tokens(multilingual=False)
    )
    assert languages_of(english, window(english)) == {"en": 1.0}


@pytest.mark.models
def test_the_first_is_what_the_recogniser_writes(model_folder: Callable[[str], Path]) -> None:
    from audio.media import read_sound

    model = Recogniser.load(model_folder("whisper-base"), threads=1)
    sound = read_sound(model_folder("sample-speech") / "es" / "conteo.wav")
    features = model.features()
    features.push(sound.samples)
    heard = model.encode(features.window(0, WINDOW_FRAMES), -(-len(sound.samples) // 160), None)
    found = hypotheses(model, heard, language="es", task="translate", count=3)
    options = RecogniseOptions(
        language="es", task="translate", beam_size=3, temperatures=(0.0,), tail_s=None
    )
    assert found[0].text == model.transcribe(sound, options).text
    assert found == hypotheses(model, heard, language="es", task="translate", count=3)
    probabilities = languages_of(model, heard)
    assert max(probabilities, key=lambda code: probabilities[code]) == "es"
    assert sum(probabilities.values()) == pytest.approx(1, abs=0.01)
