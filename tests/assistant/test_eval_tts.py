"""The figures of the voice evaluation, on a tiny voice and a recogniser that knows the answer."""

from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np
import pytest

from assistant.errors import ConfigError
from assistant.evals import tts
from assistant.evals.tts import (
    Parity,
    PhonemeErrors,
    Sentence,
    TtsReport,
    compare_phonemes,
    evaluate_tts,
    phoneme_units,
    read_sentences,
    speak_and_recognise,
)
from audio.asr import RecogniseOptions
from audio.pcm import Sound
from audio.tts import Voice
from tests.audio.tiny_voice import write_tiny_voice


@dataclass(frozen=True)
class _Heard:
    text: str


class _Recogniser:
    """Hears what it was told to hear, if there is a sound at all."""

    def __init__(self, *texts: str) -> None:
        self.texts = list(texts)
        self.rates: list[int] = []

    def transcribe(self, sound: Sound, options: RecogniseOptions) -> _Heard:
        assert options.language == "en"
        self.rates.append(sound.rate)
        return _Heard(self.texts.pop(0) if sound.samples.any() else "")


@pytest.fixture(scope="module")
def voice_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_voice(tmp_path_factory.mktemp("voice"))


@pytest.fixture(scope="module")
def voice(voice_file: Path) -> Voice:
    return Voice.load(voice_file.parent)


def test_errors_are_counted_against_the_reading(voice: Voice) -> None:
    sentence = Sentence("5 °C", "five degrees Celsius")
    good = speak_and_recognise(sentence, voice, _Recogniser("Five degrees, Celsius."), 0)
    assert (good.errors, good.words) == (0, 3)
    written = speak_and_recognise(sentence, voice, _Recogniser("5 °C"), 0)
    assert written.errors == 0
    recogniser = _Recogniser("five trees")
    bad = speak_and_recognise(sentence, voice, recogniser, 0)
    assert bad.errors > 0
    assert recogniser.rates == [16_000]
    assert bad.audio_s > 0


def test_phonemes_are_compared_with_and_without_stress() -> None:
    sentences = [Sentence("a", "a"), Sentence("b", "b")]
    errors = compare_phonemes(sentences, lambda _: "ˌaɪ bːat.", lambda _: "ˈaɪ bːad")
    assert errors == PhonemeErrors(rate=1 / 5, with_stress=2 / 6)
    assert phoneme_units("ˈiː, n̩t") == ["ˈ", "iː", "n̩", "t"]


class _Session:
    """Answers with the same samples every time."""

    def __init__(self, samples: np.ndarray) -> None:
        self.samples = samples

    def run(self, outputs: None, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
        assert feeds["scales"].tolist() == [0.0, 1.0, 0.0]
        assert feeds["input"].shape == (1, int(feeds["input_lengths"][0]))
        return [self.samples[None, None]]


def test_report_joins_the_parts(
    voice: Voice, voice_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sentences = [Sentence("a dog", "a dog")]
    still = tts.Sampling(0.0, 0.0)
    mine = voice.vocoder(voice.vits.latents(voice.ids(voice.phonemes("a dog")), still).z).numpy()
    monkeypatch.setattr(tts, "_session", lambda *_: _Session(mine + np.float32(0.25)))
    monkeypatch.setattr(tts, "espeak_installed", lambda: False)
    rows: list[tts.SpokenRow] = []
    report = evaluate_tts(
        sentences, voice, voice_file, _Recogniser("a frog"), threads=1, progress=rows.append
    )
    assert report.rows == tuple(rows)
    summary = report.summary()
    assert summary.keys() == {
        "wer", "phoneme_error_rate", "parity_max_abs", "rtf", "rtf_onnxruntime",
    }  # fmt: skip
    assert summary["wer"] == 0.5
    assert summary["phoneme_error_rate"] is None
    assert summary["parity_max_abs"] == pytest.approx(0.25, abs=1e-6)
    assert report.parity.time_ratio > 0
    assert (report.parity.sentences, report.parity.threads) == (1, 1)


def test_other_lengths_are_no_parity(
    voice: Voice, voice_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tts, "_session", lambda *_: _Session(np.zeros(3, np.float32)))
    parity = tts.compare_with_onnxruntime([Sentence("a dog", "")], voice, voice_file, threads=1)
    assert parity.max_abs == float("inf")


def test_summary_rounds() -> None:
    parity = Parity(1.23456e-5, 0.071234, 0.081234, 0.9, 20, 2)
    summary = TtsReport((), PhonemeErrors(0.012345, 0.02), parity).summary()
    assert summary == {
        "wer": 0.0, "phoneme_error_rate": 0.0123, "parity_max_abs": 1.23e-05,
        "rtf": 0.0712, "rtf_onnxruntime": 0.0812,
    }  # fmt: skip


def test_our_sentences_are_sixty_and_readable() -> None:
    sentences = read_sentences(Path(__file__).parents[2] / "assets" / "eval_sentences.txt")
    assert len(sentences) == 60
    assert all("\t" not in sentence.written and sentence.read for sentence in sentences)
    assert not any("°" in sentence.read for sentence in sentences)


def test_bad_sentence_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read"):
        read_sentences(tmp_path / "none.txt")
    empty = tmp_path / "empty.txt"
    empty.write_text("# nothing\n\n")
    with pytest.raises(ConfigError, match="holds no sentence"):
        read_sentences(empty)


def test_data_package_is_installed_without_its_reader() -> None:
    assert (resources.files("gruut_lang_en") / "espeak" / "lexicon.db").is_file()
