from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from audio.asr import RecogniseOptions, Recogniser
from audio.asr_decode import compression_ratio, loop_start
from audio.errors import AudioError
from audio.features.log_mel import log_mel
from audio.media import read_sound
from audio.pcm import Sound, silence
from tests.audio.whisper_fakes import Alignment, FakeWhisper, Result, byte_tokens, spoken

TOKENS = byte_tokens()
ENGLISH = byte_tokens(multilingual=False)


def noise(seconds: float) -> Sound:
    samples = np.random.default_rng(0).normal(size=round(seconds * 16_000)) * 0.1
    return Sound(samples.astype(np.float32))


def scripted(*results: Result) -> tuple[FakeWhisper, Recogniser]:
    model = FakeWhisper(lambda call, *_: results[min(call, len(results) - 1)])
    return model, Recogniser(model, TOKENS)


def test_windows_follow_the_time_marks() -> None:
    model, recogniser = scripted(
        # two marks at the end: speech goes on at 20 s; then unfinished text; then one mark: done
        spoken(TOKENS, 0.0, " one", 4.0, 5.0, " two", 20.0, 20.0),
        spoken(TOKENS, 0.0, " three", 10.0, 10.0, " fo"),
        spoken(TOKENS, 1.0, " four", 8.0),
    )
    transcript = recogniser.transcribe(noise(40))
    assert [(s.start, s.end, s.text) for s in transcript.segments] == [
        (0.0, 4.0, "one"),
        (5.0, 20.0, "two"),
        (20.0, 30.0, "three"),
        (31.0, 38.0, "four"),
    ]
    assert transcript.text == "one two three four"
    assert (transcript.language, transcript.language_probability) == ("de", 0.75)
    # 30 s; 20 s and 10 s with 5 s of silence after them; the first encoding served detection too
    assert model.shapes == [(1, 80, 3000), (1, 80, 2500), (1, 80, 1500)]


def test_progress_can_be_watched() -> None:
    _, recogniser = scripted(spoken(TOKENS, 0.0, " one", 4.0, 4.0, " two", 30.0))
    run = recogniser.segments(noise(31))
    assert (run.position_s, run.language) == (0.0, "de")
    assert next(run).text == "one"
    assert run.position_s == 30.0
    assert next(run).text == "two"
    list(run)
    assert run.position_s == 31.0


def test_text_without_marks_lasts_to_the_end_of_the_sound() -> None:
    _, recogniser = scripted(spoken(TOKENS, 0.0, " hello"))
    (segment,) = recogniser.transcribe(noise(3)).segments
    assert (segment.start, segment.end, segment.text) == (0.0, 3.0, "hello")


def test_marks_beyond_the_sound_are_cut() -> None:
    _, recogniser = scripted(spoken(TOKENS, 0.0, " hello", 7.0, 7.0))
    (segment,) = recogniser.transcribe(noise(3)).segments
    assert segment.end == 3.0


def test_a_window_that_does_not_move_on_is_left() -> None:
    _, recogniser = scripted(spoken(TOKENS, 0.0, " hello", 0.0, 0.0))
    assert recogniser.transcribe(noise(3)).text == "hello"


def test_a_loop_in_a_short_window_is_decoded_again_in_a_full_one() -> None:
    model, recogniser = scripted(
        spoken(TOKENS, 0.0, " la" * 20), spoken(TOKENS, 0.0, " hello", 2.0)
    )
    transcript = recogniser.transcribe(noise(3))
    assert transcript.text == "hello"
    assert model.shapes == [(1, 80, 800), (1, 80, 3000)]


def test_unlikely_text_is_tried_at_rising_temperatures() -> None:
    searches = []

    def answer(call: int, _: object, options: dict[str, object]) -> Result:
        searches.append((options.get("beam_size"), options.get("sampling_temperature")))
        return spoken(TOKENS, 0.0, f" try {call}", 1.0, score=-3.0 if call < 3 else -0.5)

    model = FakeWhisper(answer)
    options = RecogniseOptions(beam_size=5, tail_s=None)
    (segment,) = Recogniser(model, TOKENS).transcribe(noise(2), options).segments
    assert (segment.text, segment.temperature) == ("try 3", 0.6)
    assert searches == [(5, None), (1, 0.2), (1, 0.4), (1, 0.6)]


def test_when_all_fail_the_surest_without_a_loop_is_kept() -> None:
    _, recogniser = scripted(
        spoken(TOKENS, 0.0, " ha" * 30, score=-0.1),
        spoken(TOKENS, 0.0, " perhaps", score=-2.0),
        spoken(TOKENS, 0.0, " hm", score=-3.0),
    )
    options = RecogniseOptions(temperatures=(0.0, 0.5, 1.0), tail_s=None)
    assert recogniser.transcribe(noise(2), options).text == "perhaps"


def test_an_endless_loop_is_cut_to_one_round() -> None:
    _, recogniser = scripted(spoken(TOKENS, 0.0, " so it goes" + " on" * 40))
    assert recogniser.transcribe(noise(2)).text == "so it goes on"


def test_what_the_model_takes_for_silence_gives_no_text() -> None:
    model, recogniser = scripted(spoken(TOKENS, 0.0, " you", 1.0, score=-2.0, no_speech=0.9))
    assert recogniser.transcribe(noise(2)).segments == ()
    assert len(model.prompts) == 1  # and is not tried again


def test_digital_silence_is_not_even_decoded() -> None:
    model, recogniser = scripted(spoken(TOKENS, 0.0, " you", 1.0))
    transcript = recogniser.transcribe(silence(45))
    assert (transcript.text, transcript.segments) == ("", ())
    assert model.prompts == []


def test_language_is_heard_after_leading_silence() -> None:
    model, recogniser = scripted(spoken(TOKENS, 0.0, " hallo", 1.0))
    sound = Sound(np.concatenate([silence(30).samples, noise(2).samples]))
    (segment,) = recogniser.transcribe(sound).segments
    assert (segment.start, segment.text) == (30.0, "hallo")
    assert model.shapes == [(1, 80, 700)]


def test_prompts_say_language_task_and_context() -> None:
    model, recogniser = scripted(
        spoken(TOKENS, 0.0, " eins", 30.0), spoken(TOKENS, 0.0, " zwei", 3.0)
    )
    options = RecogniseOptions(
        language="de", task="translate", prompt="Voxsight", condition_on_previous_text=True
    )
    recogniser.transcribe(noise(33), options)
    start = TOKENS.start("de", "translate")
    first, second = model.prompts
    assert first[-3:] == second[-3:] == start
    assert TOKENS.decode(first[:-3]) == " Voxsight"
    assert TOKENS.decode(second[:-3]) == " Voxsight eins"


def test_context_is_off_unless_asked_for() -> None:
    model, recogniser = scripted(
        spoken(TOKENS, 0.0, " eins", 30.0), spoken(TOKENS, 0.0, " zwei", 3.0)
    )
    recogniser.transcribe(noise(33))
    assert model.prompts == [TOKENS.start("de", "transcribe")] * 2


def test_long_context_keeps_its_end() -> None:
    prompt = TOKENS.prompt("en", "transcribe", TOKENS.encode("a" * 500 + "end"))
    assert len(prompt) == 1 + 223 + 3
    assert TOKENS.decode(prompt).endswith("aend")


def test_word_times_come_from_the_alignment() -> None:
    _, recogniser = scripted(spoken(TOKENS, 0.0, " ab, cd.", 0.8, 0.8, " ef", 1.2))
    transcript = recogniser.transcribe(noise(1.2), RecogniseOptions(words=True))
    words = [(w.text, w.start, w.end) for s in transcript.segments for w in s.words]
    assert words == [(" ab,", 0.0, 0.4), (" cd.", 0.4, 0.8), (" ef", 0.8, 1.1)]
    assert [(s.start, s.end) for s in transcript.segments] == [(0.0, 0.8), (0.8, 1.1)]
    assert transcript.segments[0].words[0].probability == 0.5


def test_words_of_a_second_window_are_later() -> None:
    _, recogniser = scripted(spoken(TOKENS, 0.0, " ab", 30.0), spoken(TOKENS, 0.0, " cd", 1.0))
    transcript = recogniser.transcribe(noise(31.5), RecogniseOptions(words=True))
    assert [w.end for s in transcript.segments for w in s.words] == [0.3, 30.3]


@given(st.text(alphabet="aé 你😀,.“”-—'", max_size=20), st.sampled_from(["en", "zh"]))
def test_words_joined_are_the_text(text: str, language: str) -> None:
    ids = TOKENS.encode(text)
    words = TOKENS.split_words(ids, language)
    assert "".join(word.text for word in words) == TOKENS.decode(ids)
    assert [token for word in words for token in word.tokens] == ids


def test_words_carry_their_marks_and_whole_characters() -> None:
    def split(text: str, language: str) -> list[str]:
        return [word.text for word in TOKENS.split_words(TOKENS.encode(text), language)]

    assert split("“Ça va”, said 3.5—or so.", "en") == [
        " “Ça",
        " va”,",
        " said",
        " 3.5—",
        "or",
        " so.",
    ]
    assert split("「你好」，世界。", "zh") == [" ", "「你", "好」，", "世", "界。"]


def test_a_character_cut_short_spells_nothing() -> None:
    ids = TOKENS.encode("a你")[:-1]
    words = TOKENS.split_words(ids, "zh")
    assert sum(len(word.tokens) for word in words) == len(ids)
    assert "".join(word.text for word in words) == " a"


@given(st.lists(st.integers(0, 3), max_size=12), st.integers(1, 5), st.integers(4, 10))
def test_loops_are_found_at_their_second_round(head: list[int], period: int, rounds: int) -> None:
    cycle = list(range(10, 10 + period))
    found = loop_start([*head, *cycle * rounds])
    if period * rounds >= 16:
        assert found == len(head) + period
    else:
        assert found is None


def test_plain_text_is_no_loop() -> None:
    text = "she sells sea shells by the sea shore, the shells she sells are sea shells"
    assert loop_start(list(text.encode())) is None
    assert compression_ratio(text) < 2.4 < compression_ratio("no " * 60)
    assert compression_ratio("") == 0.0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"task": "sing"}, "transcribe or translate"),
        ({"beam_size": 0}, "beam size"),
        ({"temperatures": ()}, "temperatures"),
        ({"temperatures": (3.0,)}, "temperatures"),
        ({"tail_s": -1.0}, "tail"),
    ],
)
def test_bad_options_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(AudioError, match=message):
        RecogniseOptions(**options)  # type: ignore[arg-type]


def test_what_cannot_be_recognised_is_refused() -> None:
    _, recogniser = scripted()
    english = Recogniser(FakeWhisper(lambda *_: Result([], [], 0)), ENGLISH)
    with pytest.raises(AudioError, match="16000 Hz"):
        recogniser.transcribe(Sound(np.zeros(10, np.float32), 8000))
    with pytest.raises(AudioError, match="length of 0 s"):
        recogniser.transcribe(Sound(np.zeros(0, np.float32)))
    with pytest.raises(AudioError, match=r"'xx'; expected one of: en, zh, de"):
        recogniser.transcribe(noise(1), RecogniseOptions(language="xx"))
    with pytest.raises(AudioError, match="cannot translate"):
        english.transcribe(noise(1), RecogniseOptions(task="translate"))
    with pytest.raises(AudioError, match="'de'"):
        english.transcribe(noise(1), RecogniseOptions(language="de"))


def test_an_english_model_needs_no_detection() -> None:
    model = FakeWhisper(lambda *_: spoken(ENGLISH, 0.0, " hi", 1.0))
    recogniser = Recogniser(model, ENGLISH)
    assert recogniser.detect_language(noise(1)) == ("en", 1.0)
    assert recogniser.transcribe(noise(1)).text == "hi"
    assert model.prompts == [ENGLISH.start("en", "transcribe")]
    assert len(model.prompts[0]) == 1


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match=r"lacks model\.bin"):
        Recogniser.load(tmp_path, threads=1)
    with pytest.raises(AudioError, match="threads"):
        Recogniser.load(tmp_path, threads=0)
    (tmp_path / "model.bin").write_bytes(b"\x01\x02\x03")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(AudioError, match="cannot load"):
        Recogniser.load(tmp_path, threads=1)


Folder = Callable[[str], Path]


@pytest.mark.models
@pytest.mark.parametrize("name", ["whisper-tiny.en", "whisper-base"])
@pytest.mark.parametrize("beam_size", [1, 5])
def test_same_text_as_faster_whisper(model_folder: Folder, name: str, beam_size: int) -> None:
    """The decoding loop against faster-whisper's, both on our features of the full window."""
    from faster_whisper import WhisperModel

    folder = model_folder(name)
    ours = Recogniser.load(folder, threads=1)
    theirs = WhisperModel(str(folder), device="cpu", compute_type="int8", cpu_threads=1)
    encode = theirs.encode
    starts, ends = [], []
    for path in sorted(model_folder("sample-speech").glob("*/*.wav")):
        language = path.parent.name
        if language not in (("en",) if name.endswith(".en") else ("en", "es", "ja")):
            continue
        sound = read_sound(path)
        mel = log_mel(sound.samples, 80, 480_000 - len(sound.samples))
        theirs.encode = lambda _, mel=mel: encode(mel)
        segments, _ = theirs.transcribe(
            sound.samples,
            language=language,
            beam_size=beam_size,
            temperature=0,
            condition_on_previous_text=False,
            word_timestamps=True,
        )
        wanted = list(segments)
        options = RecogniseOptions(
            language=language, beam_size=beam_size, temperatures=(0.0,), tail_s=None, words=True
        )
        got = ours.transcribe(sound, options)
        assert got.text == " ".join(segment.text.strip() for segment in wanted), path.name
        mine = [word for segment in got.segments for word in segment.words]
        other = [word for segment in wanted for word in segment.words or ()]
        if [word.text for word in mine] == [word.word for word in other]:
            starts += [abs(a.start - b.start) for a, b in zip(mine, other, strict=True)]
            ends += [abs(a.end - b.end) for a, b in zip(mine, other, strict=True)]
    assert len(starts) > 10
    assert np.mean(starts) < 0.02
    assert np.mean(ends) < 0.1


@pytest.mark.models
def test_a_real_recogniser_hears_language_and_translates(model_folder: Folder) -> None:
    recogniser = Recogniser.load(model_folder("whisper-base"), threads=1)
    sound = read_sound(model_folder("sample-speech") / "fr" / "bonjour_monde.wav")
    transcript = recogniser.transcribe(sound, RecogniseOptions(task="translate"))
    assert transcript.language == "fr"
    assert "hello" in transcript.text.lower()
    assert recogniser.detect_language(sound)[0] == "fr"
    assert recogniser.multilingual
    assert len(recogniser.languages) == 99


def tidied(pairs: list[tuple[int, int]], *parts: str | float) -> list[tuple[float, float]]:
    """Word times (s) that come of one window whose tokens begin at the given encoder steps."""
    model, recogniser = scripted(spoken(TOKENS, *parts))
    model.align = lambda _, __, text, *a, **k: [Alignment(pairs, [1.0] * len(text[0]))]  # type: ignore[method-assign]
    transcript = recogniser.transcribe(noise(20), RecogniseOptions(words=True))
    return [(w.start, w.end) for segment in transcript.segments for w in segment.words]


def test_a_pause_after_a_sentence_belongs_to_no_word() -> None:
    # tokens: space a . space b; "a" lasts 0.2 s, its stop 5 s, "b" begins at 5.4 s
    pairs = [(0, 0), (1, 5), (2, 10), (3, 260), (4, 270), (5, 280)]
    (_, end), (start, _) = tidied(pairs, 0.0, " a. b", 20.0)
    assert end == pytest.approx(0.2 + 2 * 0.3, abs=0.11)
    assert start == 5.2


def test_a_first_word_after_a_pause_is_short_and_heeds_the_time_mark() -> None:
    # " ab" is aligned to 0..6 s and " cd" to 6..6.4 s, while the segment begins at 5.8 s
    pairs = [(0, 0), (1, 100), (2, 200), (3, 300), (4, 306), (5, 313), (6, 320)]
    (start, end), after = tidied(pairs, 5.8, " ab cd", 6.4)
    assert (end, after) == (6.0, (6.0, 6.4))
    assert 5.2 <= start <= 5.8


def test_a_last_word_that_strays_ends_at_the_time_mark() -> None:
    pairs = [(0, 0), (1, 10), (2, 20), (3, 30), (4, 40), (5, 500), (6, 900)]
    *_, (start, end) = tidied(pairs, 0.0, " ab cd", 1.2)
    assert start == 0.6
    assert 1.2 <= end <= 1.4
