"""Written words find their place in the sound: numbers, merged words, marks, silent signs."""

from collections.abc import Callable
from itertools import accumulate, pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audio.speech_text import verbalise
from audio.spoken_words import SpokenWord, sign_edges, time_words, words_heard

_TICK = 10  # samples of every phoneme, mark and space


def _times(clause: str, phonemes: str, spoken: str | None = None) -> tuple[SpokenWord, ...]:
    edges = list(range(0, _TICK * (len(phonemes) + 1), _TICK))
    said = verbalise(clause) if spoken is None else spoken
    return time_words(clause, said, phonemes, edges, 100, 100 + edges[-1])


def _spans(clause: str, phonemes: str) -> dict[str, str]:
    """The phonemes that are heard in the time of each written word."""
    return {
        word.text: phonemes[(word.start - 100) // _TICK : (word.end - 100) // _TICK].strip()
        for word in _times(clause, phonemes)
    }


def test_words_take_their_phonemes_and_the_mark_after_them() -> None:
    assert _spans("A dog, it sat.", "ə dɔɡ, ɪt sæt.") == {
        "A": "ə",
        "dog,": "dɔɡ,",
        "it": "ɪt",
        "sat.": "sæt.",
    }


def test_a_number_stays_one_word() -> None:
    said = "ðə tɹeɪn liːvz æt twɛlv θɜːɾi naʊ."
    spans = _spans("The train leaves at 12:30 now.", said)
    assert spans["12:30"] == "twɛlv θɜːɾi"
    assert spans["now."] == "naʊ."


def test_words_that_trade_places_keep_the_order() -> None:
    # "three million dollars" for "$3 million"
    spans = _spans("It costs $3 million more.", "ɪt kɔsts θɹiː mɪliən dɑːlɚz mɔːɹ.")
    assert list(spans) == ["It", "costs", "$3", "million", "more."]
    assert spans["$3"] == "θɹiː mɪliən"
    assert spans["million"] == "dɑːlɚz"
    assert spans["more."] == "mɔːɹ."


def test_dates_depend_on_their_neighbours() -> None:
    spans = _spans("On May 5, 2024 he left.", "ɔn meɪ fɪfθ, twɛnti twɛnti fɔːɹ hiː lɛft.")
    assert spans["May"] == "meɪ"
    assert spans["5,"] == "fɪfθ,"
    assert spans["2024"] == "twɛnti twɛnti fɔːɹ"
    assert spans["he"] == "hiː"


def test_words_run_together_share_their_group() -> None:
    clause, said = "The end of the long road", "ðiː ɛnd ʌvðə lɔŋ ɹoʊd"
    words = {word.text: word for word in _times(clause, said)}
    assert words["end"].end == words["of"].start
    assert words["of"].start < words["of"].end == words["the"].start < words["the"].end
    assert _spans(clause, said)["long"] == "lɔŋ"


def test_spelled_letters_are_one_group_of_a_word() -> None:
    spans = _spans("The USB cable broke", "ðə juːɛsbiː keɪbəl bɹoʊk")
    assert spans["USB"] == "juːɛsbiː"
    assert spans["cable"] == "keɪbəl"


def test_a_word_that_is_split_by_the_phonemizer_stays_whole() -> None:
    spans = _spans("Some watermelons fell", "sʌm wɔːtɚ mɛlənz fɛl")
    assert spans["watermelons"] == "wɔːtɚ mɛlənz"


def test_silent_signs_stay_with_their_neighbour() -> None:
    words = _times("😀 The cable — it broke 👋", "ðə keɪbəl, ɪt bɹoʊk")
    assert [word.text for word in words] == ["😀 The", "cable —", "it", "broke 👋"]


def test_signs_with_a_name_are_words() -> None:
    assert _spans("salt & pepper", "sɔlt ænd pɛpɚ")["&"] == "ænd"


def test_nothing_is_lost_where_phonemes_do_not_fit() -> None:
    for phonemes in ("", "...", "ə", "ə " * 60):
        words = _times("Twenty one small words are in here", phonemes)
        assert " ".join(word.text for word in words) == "Twenty one small words are in here"
        _check(words, 100, 100 + _TICK * len(phonemes))


def _check(words: tuple[SpokenWord, ...], start: int, end: int) -> None:
    assert (words[0].start, words[-1].end) == (start, end)
    assert all(one.end == other.start for one, other in pairwise(words))
    assert all(word.start <= word.end for word in words)


_PARTS = st.sampled_from(
    ["dog", "of", "the", "12:30", "$3.50", "—", "&", "USB", "Dr.", "May 5, 2024", "said,", "5%",
     "20-30", "isn't", "😀", "e.g.", "(well)", "https://a.org/b", "1.2.3", "U.S.", "*bold*", "é"]
)  # fmt: skip


@given(
    parts=st.lists(_PARTS, min_size=1, max_size=12),
    phonemes=st.text("aeoɪst ˈ,.", max_size=60),
)
def test_any_text_is_covered_in_order(parts: list[str], phonemes: str) -> None:
    clause = " ".join(parts)
    words = _times(clause, phonemes)
    _check(words, 100, 100 + _TICK * len(phonemes))
    assert " ".join(word.text for word in words) == clause


@given(lengths=st.lists(st.integers(1, 50), min_size=1, max_size=20), played=st.integers(-5, 1100))
def test_words_heard_differ_by_at_most_one_from_words_played(
    lengths: list[int], played: int
) -> None:
    ends = list(accumulate(lengths))
    words = [SpokenWord("w", end - n, end) for n, end in zip(lengths, ends, strict=True)]
    heard = words_heard(words, played)
    assert heard - 1 <= sum(end <= played for end in ends) <= heard
    assert words_heard(words, ends[-1]) == len(words)
    assert words_heard(words, 0) == 0


def test_edges_add_up_the_ids_of_each_sign() -> None:
    # start and padding, then three signs of two ids, the second unknown, and the end
    assert sign_edges([1, 2, 3, 4, 5, 6, 7], [2, 0, 2], 2) == [3, 10, 10, 21]


@pytest.mark.models
@pytest.mark.parametrize(
    "text",
    [
        "The train leaves at 12:30 from the second platform in the old station.",
        "When the rain had stopped, everybody walked slowly back to the village.",
        "A small red teapot stands on a wooden table beside the open window.",
    ],
)
def test_a_recogniser_hears_the_words_where_they_are(
    model_folder: Callable[[str], Path], text: str
) -> None:
    from audio.asr import RecogniseOptions, Recogniser
    from audio.pcm import SAMPLE_RATE, Sound
    from audio.resample import resample
    from audio.tts import SpeakOptions, Voice

    voice = Voice.load(model_folder("en_US-joe-medium"))
    piece = voice.start(SpeakOptions(seed=0)).say(text)
    assert piece is not None
    sound = Sound(resample(piece.sound.samples, voice.sample_rate, SAMPLE_RATE), SAMPLE_RATE)
    recogniser = Recogniser.load(model_folder("whisper-tiny.en"), threads=1)
    options = RecogniseOptions(language="en", words=True)
    heard = [
        word for segment in recogniser.transcribe(sound, options).segments for word in segment.words
    ]
    ours = [word.start / voice.sample_rate for word in piece.words]
    off = [abs(word.start - start) for word, start in zip(heard, ours, strict=True)]
    # The recogniser's own times are off by about 0.1 s: whisper-base puts the same words 0.1 s
    # before ours, and this one 0.06 s after.
    assert sorted(off)[len(off) // 2] < 0.1
    assert sum(apart < 0.15 for apart in off) >= 0.8 * len(off)
    assert max(off) < 0.3
