from collections.abc import Callable
from pathlib import Path

import jiwer
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assistant.errors import ConfigError
from assistant.evals.asr import AsrRow, evaluate_asr, normalise, read_transcripts, score
from assistant.evals.edit_distance import edit_distance
from audio.asr import RecogniseOptions, Recogniser, Transcript
from audio.errors import AudioError
from audio.media import read_sound, write_wav
from audio.pcm import Sound

WORDS = st.lists(st.sampled_from(["a", "b", "c", "d"]), max_size=12)


@given(WORDS.filter(bool), WORDS)
def test_edit_distance_agrees_with_jiwer(ref: list[str], hyp: list[str]) -> None:
    measured = jiwer.process_words(" ".join(ref), " ".join(hyp))
    errors = measured.substitutions + measured.deletions + measured.insertions
    assert edit_distance(ref, hyp) == edit_distance(hyp, ref) == errors


def test_edit_distance_takes_any_sequence() -> None:
    assert edit_distance("kitten", "sitting") == 3
    assert edit_distance((), ()) == 0
    assert edit_distance([], [1, 2]) == 2


def test_english_is_compared_by_its_own_rules() -> None:
    assert normalise("Mr. Smith's colour, twenty-one!", "en") == normalise(
        "mister smith is color 21", "en"
    )
    assert score("In eighteen thirteen", "in 1813", "en")[0] == 0
    assert score("the big dog", "the pig dog", "en") == (1, 3)


def test_other_languages_keep_their_letters() -> None:
    assert normalise("¡Olá, Mundo!", "pt") == "olá mundo"
    assert score("世界。", "世间", "zh") == (1, 2)


class Parrot:
    """Says what it is told to say, in the language it is told."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.languages: list[str | None] = []

    def transcribe(self, sound: Sound, options: RecogniseOptions) -> Transcript:
        self.languages.append(options.language)
        return Transcript(self.text, "en", 1.0, sound.duration_s, ())


def folder_with(tmp_path: Path, table: str) -> Path:
    (tmp_path / "transcripts.tsv").write_text(table, encoding="utf-8")
    write_wav(tmp_path / "a.wav", Sound(np.zeros(1600, np.float32)))
    return tmp_path


def test_the_report_counts_words_of_all_files(tmp_path: Path) -> None:
    data = folder_with(
        tmp_path, "file\tlanguage\ttext\na.wav\ten\thello there world\na.wav\tde\thello\n"
    )
    parrot, seen = Parrot("Hello, world!"), []
    report = evaluate_asr(data, parrot, "parrot", seen.append)  # type: ignore[arg-type]
    assert [(row.errors, row.words) for row in report.rows] == [(1, 3), (1, 1)]
    assert report.rows[0].wer == pytest.approx(1 / 3)
    assert report.summary() == {"wer": 0.5, "model": "parrot", "files": 2}
    assert parrot.languages == ["en", "de"]
    assert tuple(seen) == report.rows
    assert isinstance(seen[0], AsrRow)
    assert report.seconds >= 0


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("file\ttext\na.wav\thello\n", "lacks the column language"),
        ("", "lacks the column file"),
        ("file\tlanguage\ttext\n", "lists no recordings"),
        ("file\tlanguage\ttext\na.wav\ten\n", "line 2 .* empty column"),
    ],
)
def test_a_bad_table_is_refused(tmp_path: Path, table: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_transcripts(folder_with(tmp_path, table))


def test_missing_things_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read .*transcripts\.tsv"):
        read_transcripts(tmp_path)
    (tmp_path / "transcripts.tsv").write_bytes(b"file\tlanguage\ttext\n\xff\xfe\n")
    with pytest.raises(ConfigError, match="UTF-8"):
        read_transcripts(tmp_path)
    data = folder_with(tmp_path, "file\tlanguage\ttext\nb.wav\ten\thello\n")
    with pytest.raises(AudioError, match=r"no sound file .*b\.wav"):
        evaluate_asr(data, Parrot(""), "parrot")  # type: ignore[arg-type]


@pytest.mark.models
def test_a_real_model_reads_a_folder(model_folder: Callable[[str], Path], tmp_path: Path) -> None:
    samples = model_folder("sample-speech") / "en"
    sound = read_sound(samples / "quick_brown_fox.wav")
    text = (samples / "quick_brown_fox.txt").read_text(encoding="utf-8").strip()
    data = folder_with(tmp_path, f"file\tlanguage\ttext\nfox.wav\ten\t{text}\n")
    write_wav(data / "fox.wav", sound)
    recogniser = Recogniser.load(model_folder("whisper-tiny.en"), threads=1)
    assert evaluate_asr(data, recogniser, "whisper-tiny.en").wer == 0
