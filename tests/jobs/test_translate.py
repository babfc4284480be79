from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from assistant.errors import ConfigError
from assistant.jobs.dub import translate as module
from assistant.jobs.dub.lines import Line
from assistant.jobs.dub.translate import (
    NOT_TRANSLATED,
    WhisperOptions,
    WhisperTranslator,
    translate,
)
from audio.asr import RecogniseOptions, Recogniser
from audio.asr_nbest import Hypothesis
from audio.lexicon import Lexicon
from audio.pcm import Samples

SILENCE = np.zeros(1_600, np.float32)
WORDS = frozenset(str.split("hello world good day i do not know the a to call we have x"))


def line(language: str = "es") -> Line:
    return Line(1, 0, 1_000, 0, language, "A", "Hola.")


class Knows:
    """A recogniser as far as a translator asks one before it translates."""

    multilingual = True

    def check(self, options: RecogniseOptions) -> None:
        assert options.task == "translate"


def translator(
    monkeypatch: pytest.MonkeyPatch,
    by_language: dict[str, list[Hypothesis]],
    likely: Sequence[str] = (),
    options: WhisperOptions | None = None,
) -> tuple[WhisperTranslator, list[tuple[str, str]]]:
    """A translator whose recogniser hears what is given, and a list of what it was asked."""
    asked: list[tuple[str, str]] = []

    def found(
        recogniser: object, window: object, *, language: str, task: str, count: int
    ) -> list[Hypothesis]:
        asked.append((language, task))
        return by_language.get(language, [])

    monkeypatch.setattr(module, "hypotheses", found)
    monkeypatch.setattr(module, "encoded", lambda recogniser, sound, tail_s: tail_s)
    shares = {code: 1 / (2 + at) for at, code in enumerate(likely)}
    monkeypatch.setattr(module, "languages_of", lambda recogniser, window: shares)
    made = WhisperTranslator(Knows(), WORDS.__contains__, "w", options or WhisperOptions())  # type: ignore[arg-type]
    return made, asked


def test_wordings_the_best_first(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [
        Hypothesis("good day, Mundo", -0.1, False),
        Hypothesis("hello world", -0.2, False),
        Hypothesis("I do not know", -0.7, False),
    ]
    made, asked = translator(monkeypatch, {"es": found}, options=WhisperOptions(known_share=0.6))
    done = translate(line(), SILENCE, made)
    assert done.wordings[:3] == ("Hello world.", "I do not know.", "Good day, Mundo.")
    assert "I don't know." in done.wordings and not done.kept
    assert asked == [("es", "translate")] * 2


def test_english_is_written_down(monkeypatch: pytest.MonkeyPatch) -> None:
    made, asked = translator(monkeypatch, {"en": [Hypothesis("hello", -0.1, False)]})
    assert translate(line("en"), SILENCE, made).wordings == ("Hello.",)
    assert asked == [("en", "transcribe")] * 2


def test_other_languages_where_the_first_gives_no_sense(monkeypatch: pytest.MonkeyPatch) -> None:
    heard = {"cs": [Hypothesis("hello", -0.1, False)], "es": [Hypothesis("žedem", -0.1, False)]}
    made, asked = translator(monkeypatch, heard, likely=["es", "la", "cs", "pl"])
    assert translate(line(), SILENCE, made).wordings == ("Hello.",)
    assert [language for language, _ in asked] == ["es", "es", "la", "cs"]


@pytest.mark.parametrize(
    "nonsense",
    [
        Hypothesis("hello world", -0.1, True),
        Hypothesis("hello world", -2.5, False),
        Hypothesis("你好", -0.1, False),
        Hypothesis("Tian Dixian Huang", -0.1, False),
        Hypothesis("x x", -0.1, False),
        Hypothesis("hello world I do know preguiçoso", -0.1, False),
        Hypothesis("hello world I do know it 長", -0.1, False),
        Hypothesis("hello world world world", -0.1, False),
        Hypothesis("hello\x00", -0.1, False),
        Hypothesis("...", -0.1, False),
    ],
)
def test_nonsense_keeps_the_original(monkeypatch: pytest.MonkeyPatch, nonsense: Hypothesis) -> None:
    made, _ = translator(monkeypatch, {"es": [nonsense]})
    done = translate(line(), SILENCE, made)
    assert (done.wordings, done.kept) == ((), NOT_TRANSLATED)


def test_names_keep_their_letters(monkeypatch: pytest.MonkeyPatch) -> None:
    made, _ = translator(monkeypatch, {"es": [Hypothesis("I don’t know José", -0.1, False)]})
    made.options = WhisperOptions(known_share=0.5)
    assert translate(line(), SILENCE, made).wordings[0] == "I don’t know José."


def test_what_stayed_in_the_other_language_by_the_real_lexicon() -> None:
    made = WhisperTranslator(Knows(), Lexicon.load().__contains__, "w")  # type: ignore[arg-type]
    for text in (
        "She drank a coffee in the café with her fiancé",
        "It is a cliché, déjà vu, and half of it is ½ m² of naïve décor",
        "We met at the l'Élysée and José said no",
    ):
        assert made.makes_sense(Hypothesis(text, -0.1, False)), text
    for text in (
        "The quick fox jumps over the preguiçoso dog",
        "I know this man and his name is Lie長 長",
    ):
        assert not made.makes_sense(Hypothesis(text, -0.1, False)), text


def test_other_targets_get_no_english_rules() -> None:
    class German:
        name, target = "g", "de"

        def __call__(
            self, line: Line, sound: Samples, before: Sequence[Line], after: Sequence[Line]
        ) -> tuple[str, ...]:
            return ("Ich do not weiß, 1-2-3",)

    assert translate(line(), SILENCE, German()).wordings == ("Ich do not weiß, 1-2-3",)


def test_options_are_checked() -> None:
    with pytest.raises(ConfigError, match="1 or more beams"):
        WhisperOptions(beams=0)


@pytest.mark.models
def test_real_speech_in_two_languages(model_folder: Callable[[str], Path], tmp_path: Path) -> None:
    """Heard, cut into lines and translated: two languages in one recording."""
    import soundfile

    from assistant.jobs.dub.hear import Heard, HearOptions, hear
    from assistant.jobs.dub.regions import Span, read_span
    from assistant.jobs.dub.segment import segment
    from audio.lexicon import Lexicon
    from audio.media import read_sound
    from audio.vad import SileroVad

    samples = model_folder("sample-speech")
    parts = [read_sound(samples / name).samples for name in ("fr/comptage.wav", "es/conteo.wav")]
    pause = np.zeros(16_000, np.float32)
    speech = tmp_path / "speech.flac"
    soundfile.write(speech, np.concatenate([pause, parts[0], pause, parts[1]]), 16_000)
    recogniser = Recogniser.load(model_folder("whisper-base"), threads=1)
    done: list[int] = []
    heard = hear(speech, recogniser, SileroVad.load(), HearOptions(beam_size=1), done.append)
    assert [region.language for region in heard.regions] == ["fr", "es"]
    assert Heard.from_dict(heard.to_dict()) == heard
    halves = [region.end_ms // 2 for region in heard.regions]
    assert done[: len(halves)] == pytest.approx(halves, abs=200)
    assert done[len(halves) :] == [(heard.duration_ms + one.end_ms) // 2 for one in heard.regions]
    lines = segment(heard)
    starts = [1_000, 2_000 + round(len(parts[0]) / 16)]
    assert [line.start_ms for line in lines] == pytest.approx(starts, abs=120)
    assert lines[0].end_ms < starts[1] - 1_000 and lines[1].end_ms <= heard.duration_ms
    made = WhisperTranslator(recogniser, Lexicon.load().__contains__, "whisper-base")
    for one in lines:
        sound, _ = read_span(speech, Span(one.start_ms * 16, one.end_ms * 16), 3_200)
        found = translate(one, sound, made)
        assert found.wordings[0].startswith("1, 2, 3, 4, 5, 6, 7, 8, 9, 10")
        assert any(wording.startswith("1 2 3 4 5 6 7 8 9 10") for wording in found.wordings)
