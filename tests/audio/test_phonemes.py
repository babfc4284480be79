"""Words become the phonemes that espeak-ng would write."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audio import espeak
from audio.errors import AudioError
from audio.espeak import EspeakPhonemizer
from audio.lexicon import Lexicon, spell
from audio.phonemes import Phonemizer

_LEXICON = Lexicon.load()
_SAY = Phonemizer(_LEXICON)


@pytest.mark.parametrize(
    ("word", "said"),
    [
        # the data have ŋ here, from the k or g of the alphabetically next word
        ("golden", "ɡˈoʊldən"),
        ("can", "kæn"),
        ("kitchen", "kˈɪtʃən"),
        ("king", "kˈɪŋ"),
        ("going", "ɡˌoʊɪŋ"),
        # and here a linking r or a flap, from its vowel
        ("over", "ˌoʊvɚ"),
        ("at", "æt"),
        # words and endings that it does not list
        ("retriever", "ɹᵻtɹˈiːvɚ"),
        ("siddharth's", None),
        ("screenshots", "skɹˈiːnʃɑːts"),
        ("bvg", "bˌiːvˌiːdʒˈiː"),
    ],
)
def test_words(word: str, said: str | None) -> None:
    got = _LEXICON.say(word)
    assert got == said if said else got.count("ˈ") == 1


@pytest.mark.parametrize(
    ("stem", "said"),
    [("blorb", "blorb"), ("blick", "blick")],
)
def test_endings_of_unknown_stems(stem: str, said: str) -> None:
    words = {
        "blorb": "blˈɔːɹb",
        "blick": "blˈɪk",
        "brish": "bɹˈɪʃ",
        "plade": "plˈeɪd",
        "crosy": "kɹˈoʊsi",
    }
    lexicon = Lexicon(words)
    assert lexicon.say(stem) == words[said]
    assert lexicon.say("blorbs") == "blˈɔːɹbz"
    assert lexicon.say("blick's") == "blˈɪks"
    assert lexicon.say("brishes") == "bɹˈɪʃᵻz"
    assert lexicon.say("blicked") == "blˈɪkt"
    assert lexicon.say("pladed") == "plˈeɪdᵻd"
    assert lexicon.say("blorbed") == "blˈɔːɹbd"
    assert lexicon.say("plading") == "plˈeɪdɪŋ"
    assert lexicon.say("blorbbing") == "blˈɔːɹbɪŋ"
    assert lexicon.say("crosies") == "kɹˈoʊsiz"
    assert lexicon.say("crosiness") == "kɹˈoʊsinəs"
    assert lexicon.say("blickly") == "blˈɪkli"
    assert lexicon.say("brishblick") == "bɹˈɪʃblˌɪk"
    assert lexicon.say("zzz") == spell("zzz")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("the apple and the dog", "ðɪ ˈæpəl ænd ðə dˈɑːɡ"),
        ("to eat, to go", "tʊ ˈiːt, tə ɡˈoʊ"),
        ("Can I see it?", "kæn aɪ sˈiː ɪt?"),
        ("What is that for?", "wˌʌt ɪz ðˈæt fɔːɹ?"),
        ("think about it", "θˈɪŋk ɐbˈaʊt ɪt"),
        ("the weather is", "ðə wˈɛðɚɹ ɪz"),
        ("in the end of the week", "ɪnðɪ ˈɛnd ʌvðə wˈiːk"),
        ("I record the record", "aɪ ɹᵻkˈoːɹd ðə ɹˈɛkɚd"),
        ("He lives; their lives", "hiː lˈɪvz; ðɛɹ lˈaɪvz"),
        ("I have read it", "aɪ hæv ɹˈɛd ɪt"),
        ("I always read it", "aɪ ˈɔːlweɪz ɹˈiːd ɪt"),
        ("the produce", "ðə pɹˈɑːduːs"),
        ("the U S A, the F B I's", "ðə jˌuːˌɛsˈeɪ, ðɪ ˌɛfbˌiːˈaɪz"),
        ("It is.", "ɪɾ ˈɪz."),
        ("a golden retriever!", "ɐ ɡˈoʊldən ɹᵻtɹˈiːvɚ!"),
        ("Yes.,! no", "jˈɛs! nˈoʊ"),
        ("...", ""),
        ("", ""),
    ],
)
def test_sentences(text: str, said: str) -> None:
    assert _SAY(text) == said


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=60))
def test_any_text_is_read_without_a_crash(text: str) -> None:
    said = _SAY(text)
    assert not any(sign.isdigit() and sign.isascii() for sign in said)


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="abcdefghijklmnopqrstuvwxyz", min_size=1, max_size=20))
def test_any_word_has_phonemes(word: str) -> None:
    said = _LEXICON.say(word)
    assert said
    assert " " not in said
    assert _LEXICON.say(word) == said


def test_missing_data_are_reported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("audio.lexicon.resources.files", lambda _: tmp_path)
    with pytest.raises(AudioError, match="cannot be read; reinstall gruut_lang_en"):
        Lexicon.load()

    def absent(_: str) -> Path:
        raise ModuleNotFoundError

    monkeypatch.setattr("audio.lexicon.resources.files", absent)
    with pytest.raises(AudioError, match="pip install gruut_lang_en"):
        Lexicon.load()


_FAKE = """#!/bin/sh
cat > /dev/null
printf '%s'
"""


@pytest.fixture
def fake_espeak(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """A program named espeak-ng that answers the given lines."""

    def install(answer: str) -> None:
        program = tmp_path / "espeak-ng"
        program.write_text(_FAKE % answer)
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")

    return install


def test_espeak_answers_clause_by_clause(fake_espeak: Callable[[str], None]) -> None:
    fake_espeak(r"wˈʌn\ntˈuː\n")
    assert EspeakPhonemizer()("one, two") == "wˈʌn, tˈuː"
    assert EspeakPhonemizer()(" . ") == ""


def test_a_wrong_number_of_answers_is_noticed(fake_espeak: Callable[[str], None]) -> None:
    fake_espeak(r"wˈʌn\n")
    with pytest.raises(AudioError, match="2 clauses but wrote 1 lines"):
        EspeakPhonemizer()("one, two")


def test_without_espeak_there_is_a_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not espeak.espeak_installed()
    with pytest.raises(AudioError, match="espeak-ng could not be run"):
        EspeakPhonemizer()("one")


@pytest.mark.skipif(not shutil.which("espeak-ng"), reason="espeak-ng is not installed")
def test_close_to_the_real_espeak() -> None:
    text = "I can see a golden retriever, a loaf of bread, and the owner of the house."
    assert EspeakPhonemizer()(text) == _SAY(text)
