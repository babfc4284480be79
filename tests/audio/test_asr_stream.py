import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from audio.asr import RecogniseOptions, Recogniser
from audio.asr_stream import Hypothesis, ListenOptions, StreamingRecogniser
from audio.errors import AudioError
from audio.features.reference import HOP
from audio.features.stream import FeatureStream
from audio.media import read_sound
from audio.pcm import SAMPLE_RATE, Samples
from audio.transcript import HeardWord, LocalAgreement
from tests.audio.whisper_fakes import FakeWhisper, Result, byte_tokens, spoken

TOKENS = byte_tokens()
LETTER = SAMPLE_RATE // 10  # one letter of a dictation lasts 0.1 s, as in the fake alignment
TEXTS = (
    " " + " ".join(f"on{i:02}e" for i in range(60)),
    " " + " ".join(f"tw{i:02}o." for i in range(50)),
)
OPTIONS = ListenOptions(
    recognise=RecogniseOptions(language="en"),
    agreement=LocalAgreement(window_s=3.0, run_up_s=1.0, context_words=4),
)


def dictation(voice: int, letters: int = 400) -> Samples:
    """Sound in which each sample tells which letter of which text it belongs to."""
    codes = np.repeat(np.arange(letters), LETTER)
    return ((codes + 1 + 400 * voice) / 1000).astype(np.float32)


class CodeStream(FeatureStream):
    """Features that are the samples themselves, one for each frame."""

    def __init__(self, n_mels: int = 80) -> None:
        super().__init__(n_mels)
        self.sound = np.zeros(0, np.float32)

    def push(self, samples: Samples, *, rate: int = SAMPLE_RATE) -> int:
        self.sound = np.append(self.sound, samples)
        self.samples += len(samples)
        self.frames = self.samples // HOP
        return 0

    @property
    def first(self) -> int:
        return max(0, self.frames - 3000)

    def window(self, begin: int, frames: int = 3000) -> Samples:
        out = np.full((self.n_mels, frames), -1.5, np.float32)
        heard = self.sound[begin * HOP :: HOP][:frames]
        out[0, : len(heard)] = heard
        return out


@dataclass
class Listener(FakeWhisper):
    """Writes the letters of which it hears at least half; it tells them from the sound alone."""

    def encode(self, view: Any) -> Any:
        mel = np.array(view)[0, 0]
        self.shapes.append(tuple(view.shape))
        codes, frames = np.unique(np.round(mel[mel > 0] * 1000).astype(int) - 1, return_counts=True)
        return codes[frames >= 5]

    def generate(
        self, encoded: NDArray[np.int_], prompts: list[list[int]], **options: Any
    ) -> list[Result]:
        text = "".join(TEXTS[code // 400][code % 400] for code in encoded)
        prompt = prompts[0]
        self.prompts.append(prompt)
        start = prompt.index(TOKENS.time_begin) if TOKENS.time_begin in prompt else len(prompt)
        # What it is made to begin with is what the window does begin with.
        assert text.startswith(TOKENS.decode(prompt[start + 1 :]))
        return [spoken(TOKENS, 0.0, text) if text.strip() else spoken(TOKENS, 0.0)]


def listener() -> Listener:
    return Listener(lambda *_: spoken(TOKENS), language="en")


def streaming(model: FakeWhisper, options: ListenOptions = OPTIONS) -> StreamingRecogniser:
    return StreamingRecogniser(Recogniser(model, TOKENS, CodeStream), options)


def scripted(*results: Result, **options: Any) -> tuple[FakeWhisper, StreamingRecogniser]:
    """A model that says one thing after the other, whatever it hears."""
    model = FakeWhisper(lambda call, *_: results[min(call, len(results) - 1)], language="en")
    return model, streaming(model, replace(OPTIONS, **options))


def noise(seconds: float) -> Samples:
    return np.full(round(seconds * SAMPLE_RATE), 0.3, np.float32)


def spell(words: Sequence[HeardWord]) -> str:
    return "".join(word.text for word in words)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(400, 30_000), min_size=1, max_size=8))
def test_streamed_dictation_is_the_text(sizes: list[int]) -> None:
    """However the sound is cut into chunks: each word once, at its place, and never changed."""
    model = listener()
    streams = streaming(model)
    state = streams.state()
    sound, final, at = dictation(0, 300), list[HeardWord](), 0
    while at < len(sound):
        size = sizes[len(model.prompts) % len(sizes)]
        streams.hear(state, sound[at : at + size])
        at += size
        if streams.due(state):
            final += streams.update(state).committed_new
        assert TEXTS[0].startswith(spell(final))
    final += streams.finish(state).committed_new
    assert spell(final) == TEXTS[0][:300]
    assert [(word.begin, word.end) for word in final[:2]] == [(0, 6 * LETTER), (6 * LETTER, 19200)]
    assert final[-1].end == 300 * LETTER
    # a window of 3 s, what comes until the next update, and 5 s of silence
    assert max(shape[2] for shape in model.shapes) <= 300 + 188 + 60 + 500
    assert max(map(len, model.prompts)) < 100


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(1, 20_000)), max_size=30))
def test_streams_of_one_recogniser_never_mix(turns: list[tuple[bool, int]]) -> None:
    streams = streaming(listener())
    states = [streams.state(), streams.state()]
    texts, at = ["", ""], [0, 0]
    for second, size in turns:
        voice = int(second)
        streams.hear(states[voice], dictation(voice)[at[voice] : at[voice] + size])
        at[voice] = min(at[voice] + size, 400 * LETTER)
        texts[voice] += spell(streams.update(states[voice]).committed_new)
    for voice in (0, 1):
        texts[voice] += spell(streams.finish(states[voice]).committed_new)
        letters = round(at[voice] / LETTER)
        assert abs(len(texts[voice]) - letters) <= 1
        assert texts[voice] == TEXTS[voice][: len(texts[voice])]


def test_an_update_is_due_after_so_much_new_speech() -> None:
    streams = streaming(listener())
    state = streams.state()
    streams.hear(state, dictation(0)[:9_599])
    assert not streams.due(state)
    streams.hear(state, dictation(0)[9_599:9_600])
    assert streams.due(state)
    streams.update(state)
    assert not streams.due(state)


def test_finish_needs_no_model_when_only_silence_came_since() -> None:
    model = listener()
    streams = streaming(model)
    state = streams.state()
    spoken_until = 25 * LETTER
    streams.hear(state, dictation(0)[: spoken_until + 3200], spoken_until)
    assert not streams.covered(state)
    update = streams.update(state)
    assert streams.covered(state)
    streams.hear(state, noise(0.5), spoken_until)
    assert streams.finish(state).committed_new == update.tentative
    assert len(model.prompts) == 1


def test_finish_reads_what_is_new() -> None:
    model = listener()
    streams = streaming(model)
    state = streams.state()
    streams.hear(state, dictation(0)[: 12 * LETTER])
    streams.update(state)
    streams.hear(state, dictation(0)[12 * LETTER : 24 * LETTER])
    assert spell(streams.finish(state).committed_new) == TEXTS[0][:24]
    assert len(model.prompts) == 2


def test_without_speech_there_are_no_words_and_no_calls() -> None:
    model, streams = scripted(spoken(TOKENS, 0.0, " thank you", 1.0))
    state = streams.state()
    streams.hear(state, noise(1), 0)
    streams.begin(state, 8000)
    streams.hear(state, noise(3))
    assert not streams.due(state)
    assert streams.update(state).tentative == ()
    assert streams.finish(state).committed_new == ()
    assert model.prompts == []


def test_sound_long_after_the_speech_is_not_heard() -> None:
    streams = streaming(listener())
    state = streams.state()
    streams.hear(state, dictation(0)[: 60 * LETTER], 18 * LETTER)
    # 0.3 s after the speech still belong to it
    assert spell(streams.finish(state).committed_new) == TEXTS[0][:21]


def test_words_without_sound_are_left_out() -> None:
    _, streams = scripted(spoken(TOKENS, 0.0, " one and all of that", 2.0))
    state = streams.state()
    streams.hear(state, noise(0.75))
    assert spell(streams.update(state).tentative) == " one and"


def test_a_loop_is_ignored_while_speech_goes_on_and_cut_when_it_has_paused() -> None:
    loop = spoken(TOKENS, 0.0, " a" * 40, 4.0)
    model, streams = scripted(spoken(TOKENS, 0.0, " one"), loop)
    state = streams.state()
    streams.hear(state, noise(1), SAMPLE_RATE)
    streams.update(state)
    streams.hear(state, noise(1), 2 * SAMPLE_RATE)
    assert spell(streams.update(state).tentative) == " one"
    assert not streams.covered(state)
    assert len(model.prompts) == 1 + 1  # one attempt: the next update is near
    streams.hear(state, noise(0.2), 2 * SAMPLE_RATE)
    assert spell(streams.finish(state).committed_new) == " a"
    assert len(model.prompts) == 2 + 7  # at all temperatures, the first in both windows


def test_a_window_moves_on_even_where_nothing_passes_the_checks() -> None:
    """Unlikely text for two minutes: the window stays within what is kept and what costs little."""
    stream = streaming(listener())
    state = stream.state()
    sound = np.resize(dictation(0, 300), 120 * SAMPLE_RATE)
    longest = 0
    for chunk in np.split(sound, range(8_000, len(sound), 8_000)):
        stream.hear(state, chunk)
        request = stream.request(state)
        assert request is not None
        longest = max(longest, request.end - request.begin)
        stream.accept(state, Hypothesis(request, (), "en", sure=False))
    assert longest <= 2 * OPTIONS.agreement.window_s * SAMPLE_RATE + 8_000


def test_what_the_model_takes_for_silence_has_no_words() -> None:
    _, streams = scripted(spoken(TOKENS, 0.0, " thank you", 1.0, score=-2.0, no_speech=0.9))
    state = streams.state()
    streams.hear(state, noise(1))
    assert streams.finish(state).committed_new == ()


def test_a_hypothesis_that_comes_too_late_changes_nothing() -> None:
    streams = streaming(listener())
    state = streams.state()
    streams.hear(state, dictation(0)[: 20 * LETTER])
    request = streams.request(state)
    assert request is not None
    hypothesis = streams.recognise(request)
    streams.begin(state, 12 * LETTER)
    assert streams.accept(state, hypothesis).tentative == ()
    streams.hear(state, dictation(0)[20 * LETTER : 30 * LETTER])
    assert spell(streams.finish(state).committed_new) == TEXTS[0][12:30]


def test_an_utterance_begins_where_sound_is_still_kept() -> None:
    streams = streaming(listener())
    state = streams.state()
    streams.hear(state, np.concatenate([noise(40), dictation(0)[: 12 * LETTER]]))
    streams.begin(state, 0)
    assert state.transcript.window_begin == state.features.first * HOP > 0
    streams.begin(state, 40 * SAMPLE_RATE)
    streams.hear(state, dictation(0)[12 * LETTER : 18 * LETTER])
    assert spell(streams.finish(state).committed_new) == TEXTS[0][:18]


def test_the_language_is_told_once_and_before_anything_is_final() -> None:
    options = replace(OPTIONS, recognise=RecogniseOptions(), step_s=0.1)
    model = listener()
    streams = streaming(model, options)
    state = streams.state()
    model.language = "de"
    for letter in range(0, 19, 6):
        streams.hear(state, dictation(0)[letter * LETTER : (letter + 6) * LETTER])
        final = streams.update(state).committed_new
        assert (state.language, bool(final)) == ((None, False) if letter < 18 else ("de", True))
    model.language = "zh"
    streams.hear(state, dictation(0)[24 * LETTER : 36 * LETTER])
    streams.finish(state)
    assert state.language == "de"
    assert TOKENS.start("de", "transcribe")[1] in model.prompts[-1]


def test_names_come_before_the_context() -> None:
    options = replace(OPTIONS, recognise=RecogniseOptions(language="en", prompt="Ada"))
    model = listener()
    streams = streaming(model, options)
    state = streams.state()
    for at in range(0, 120, 6):
        streams.hear(state, dictation(0)[at * LETTER : (at + 6) * LETTER])
        streams.update(state)
    assert TOKENS.decode(model.prompts[0]) == " Ada"
    context = TOKENS.decode(model.prompts[-1])
    assert context.startswith(" Ada on")
    assert 4 <= len(context.split()) - 1 <= 4 + 3  # the context, then the words that still sound


@pytest.mark.parametrize("options", [{"step_s": 0.0}, {"end_s": -0.1}, {"language_s": -1.0}])
def test_figures_that_make_no_sense_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(AudioError, match="expected step_s above 0"):
        ListenOptions(**options)  # type: ignore[arg-type]


def test_a_language_that_the_model_does_not_know_is_refused() -> None:
    with pytest.raises(AudioError, match="does not know the language 'xx'"):
        streaming(listener(), ListenOptions(recognise=RecogniseOptions(language="xx")))


@pytest.mark.models
def test_a_real_model_hears_the_same_streamed_as_whole(
    model_folder: Callable[[str], Path],
) -> None:
    recogniser = Recogniser.load(model_folder("whisper-tiny.en"), threads=1)
    streams = StreamingRecogniser(recogniser)
    for path in sorted((model_folder("sample-speech") / "en").glob("*.wav")):
        sound, state, text = read_sound(path), streams.state(), ""
        for at in range(0, len(sound.samples), 1600):
            streams.hear(state, sound.samples[at : at + 1600])
            if streams.due(state):
                text += spell(streams.update(state).committed_new)
        text += spell(streams.finish(state).committed_new)
        whole = recogniser.transcribe(sound).text
        assert re.findall(r"\w+", text.lower()) == re.findall(r"\w+", whole.lower()), path.name
