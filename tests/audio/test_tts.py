"""A voice speaks in pieces that join to the whole, the same for the same seed, never clipped."""

import json
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise, zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from audio.errors import AudioError
from audio.speech_text import SplitRules, verbalise
from audio.tts import SpeakOptions, Voice, read_config
from audio.vits import Sampling
from audio.vocoder_stream import ChunkPlan
from tests.audio.tiny_voice import tiny_config, write_tiny_voice

_TEXT = "A dog ran home, and it sat. Did two cats see it? No."


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("voice")
    write_tiny_voice(path)
    return path


@pytest.fixture(scope="module")
def voice(folder: Path) -> Voice:
    return Voice.load(folder)


def test_speaking_is_joining_the_stream(voice: Voice) -> None:
    options = SpeakOptions(seed=5)
    pieces = list(voice.stream(_TEXT, options))
    assert len(pieces) == 3
    whole = voice.speak(_TEXT, options)
    assert whole.rate == voice.sample_rate == 8000
    np.testing.assert_array_equal(whole.samples, np.concatenate([p.samples for p in pieces]))
    assert np.abs(whole.samples).max() <= 1.0


def test_text_may_come_in_pieces(voice: Voice) -> None:
    options = SpeakOptions(seed=5)
    arriving = (_TEXT[at : at + 3] for at in range(0, len(_TEXT), 3))
    np.testing.assert_array_equal(
        voice.speak(arriving, options).samples, voice.speak(_TEXT, options).samples
    )


def test_a_seed_fixes_the_sound(voice: Voice) -> None:
    one, again = (voice.speak(_TEXT, SpeakOptions(seed=1)).samples for _ in range(2))
    np.testing.assert_array_equal(one, again)
    fresh = [voice.speak(_TEXT).samples for _ in range(2)]
    assert len(fresh[0]) != len(fresh[1]) or not np.array_equal(*fresh)


def test_the_rate_is_the_pace(voice: Voice) -> None:
    own, *others = (
        voice.speak("a dog ran home", SpeakOptions(rate=rate, noise_w=0.0, seed=0)).duration_s
        for rate in (1.0, 0.5, 0.85, 1.25)
    )
    for rate, seconds in zip((0.5, 0.85, 1.25), others, strict=True):
        assert seconds == pytest.approx(own / rate, rel=0.03)


def test_durations_cover_each_piece(voice: Voice) -> None:
    pieces = list(voice.pieces(_TEXT, SpeakOptions(seed=0)))
    assert [piece.pause for piece in pieces] == [0, 1600, 1600]
    for piece in pieces:
        assert sum(piece.durations) + piece.pause == len(piece.sound.samples)
        assert len(piece.durations) == len(voice.ids(piece.phonemes))
        assert not piece.sound.samples[: piece.pause].any()
    assert " ".join(piece.text for piece in pieces) == _TEXT


def test_a_clause_is_followed_by_a_shorter_pause(voice: Voice) -> None:
    options = SpeakOptions(seed=0, split=SplitRules(first_clause=5))
    pieces = list(voice.pieces("A dog ran, it sat. No", options))
    assert [piece.pause for piece in pieces] == [0, 400, 1600]


def test_a_cut_where_nobody_pauses_is_not_heard(voice: Voice) -> None:
    whole, options = "A dog ran home on a road", SpeakOptions(seed=0, split=SplitRules(opening=8))
    first, second = voice.pieces(whole, options)
    assert (first.text, second.text) == ("A dog ran home", "on a road")
    # What begins and ends a sentence lasts nothing at the cut.
    assert first.durations[0] > 0 == first.durations[-1]
    assert second.durations[0] == second.durations[-1] == second.pause == 0
    for piece in (first, second):
        assert sum(piece.durations) == len(piece.sound.samples)
        assert (piece.words[0].start, piece.words[-1].end) == (0, len(piece.sound.samples))


def test_lines_without_marks_are_apart(voice: Voice) -> None:
    pieces = list(voice.pieces("- A dog\n- A cat\n", SpeakOptions(seed=0)))
    assert [piece.pause for piece in pieces] == [0, 1600]
    assert pieces[1].durations[0] > 0


def test_long_text_is_spoken_in_many_pieces(voice: Voice) -> None:
    sounds = list(voice.stream("dog " * 500, SpeakOptions(seed=0)))
    assert len(sounds) > 5


@pytest.mark.parametrize("text", ["", "   \n", "...!?", "👋🏽 😀", "---", "**"])
def test_text_without_words_is_refused(voice: Voice, text: str) -> None:
    with pytest.raises(AudioError, match="no word or number"):
        voice.speak(text)


def test_silent_pieces_between_words_are_passed_over(voice: Voice) -> None:
    assert len(list(voice.stream("A dog. 😀! A cat.", SpeakOptions(seed=0)))) == 2


def test_unknown_phonemes_are_left_out(voice: Voice) -> None:
    assert voice.ids("dθɒɡ") == voice.ids("dɡ")
    assert voice.ids("θ☃, .") == []
    assert voice.ids("") == []
    # start, padding, each phoneme and its padding, end
    assert voice.ids("ab") == [1, 0, 8, 0, 9, 0, 2]


@pytest.mark.parametrize("rate", [0.0, 0.2, 4.1, -1.0, float("nan")])
def test_rates_out_of_range_are_refused(rate: float) -> None:
    with pytest.raises(AudioError, match="rate of speech should be between"):
        SpeakOptions(rate=rate)


def test_noise_out_of_range_is_refused() -> None:
    with pytest.raises(AudioError, match="between 0 and"):
        SpeakOptions(noise_w=-0.1)
    with pytest.raises(AudioError, match="between 0 and"):
        SpeakOptions(noise_scale=9.0)


def test_a_folder_without_a_voice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="holds 0"):
        Voice.load(tmp_path)
    with pytest.raises(AudioError, match="holds 0"):
        Voice.load(tmp_path / "nowhere")


def test_settings_that_do_not_fit_the_weights_are_refused(tmp_path: Path) -> None:
    path = write_tiny_voice(tmp_path)
    config = tiny_config()
    config["phoneme_id_map"] = {"_": [0], "^": [1], "$": [2], "a": [99]}
    Path(f"{path}.json").write_text(json.dumps(config))
    with pytest.raises(AudioError, match="goes up to 99 but the voice knows only 40"):
        Voice.load(tmp_path)


def _without_pad(config: dict[str, Any]) -> None:
    del config["phoneme_id_map"]["_"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(espeak={"voice": "de"}), "speaks 'de'"),
        (lambda c: c.update(num_speakers=4), "4 speakers"),
        (lambda c: c.pop("audio"), "KeyError"),
        (lambda c: c.update(inference=None), "TypeError"),
        (lambda c: c.update(phoneme_id_map=["a"]), "AttributeError"),
        (_without_pad, "lacks"),
    ],
)
def test_bad_settings_are_refused(
    tmp_path: Path, change: Callable[[dict[str, Any]], None], message: str
) -> None:
    config = tiny_config()
    change(config)
    path = tmp_path / "v.onnx.json"
    path.write_text(json.dumps(config))
    with pytest.raises(AudioError, match=message):
        read_config(path)


def test_settings_that_are_no_json_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "v.onnx.json"
    with pytest.raises(AudioError, match="cannot be read"):
        read_config(path)
    path.write_bytes(b"\x00\xffnonsense")
    with pytest.raises(AudioError, match="should be the settings"):
        read_config(path)


def test_a_vocoder_of_another_width_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("audio.vocoder.Vocoder.latent", property(lambda _: 12))
    with pytest.raises(AudioError, match="makes 6 channels but the vocoder expects 12"):
        Voice.load(folder)


@pytest.mark.models
def test_real_voice_equals_onnxruntime(model_folder: Callable[[str], Path]) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    folder = model_folder("en_US-joe-medium")
    voice = Voice.load(folder)
    session = onnxruntime.InferenceSession(
        str(next(folder.glob("*.onnx"))), providers=["CPUExecutionProvider"]
    )
    for text in ("Hello there, how are you?", "I can see a golden retriever on the porch."):
        ids = voice.ids(voice.phonemes(verbalise(text)))
        mine = voice.vocoder(voice.vits.latents(ids, Sampling(0.0, 0.0)).z).numpy()
        feeds = {
            "input": np.array([ids]),
            "input_lengths": np.array([len(ids)]),
            "scales": np.array([0, 1, 0], np.float32),
        }
        reference = session.run(None, feeds)[0].ravel()
        np.testing.assert_allclose(mine, reference, atol=1e-3)


@pytest.mark.models
def test_real_voice_is_loud_enough_and_not_clipped(model_folder: Callable[[str], Path]) -> None:
    voice = Voice.load(model_folder("en_US-joe-medium"))
    sound = voice.speak("The picture shows a red teapot.", replace(SpeakOptions(), seed=0))
    assert 0.1 < np.abs(sound.samples).max() < 1.0
    assert 1.0 < sound.duration_s < 4.0
    assert torch.isfinite(torch.from_numpy(sound.samples)).all()


def test_streamed_chunks_are_the_clause(voice: Voice) -> None:
    for plan in (ChunkPlan(1, 1.0, 1), ChunkPlan(2, 1.5, 7), ChunkPlan()):
        options = SpeakOptions(seed=3, plan=plan)
        streaming, saying = voice.start(options), voice.start(SpeakOptions(seed=3))
        for clause in ("A dog ran home, and it sat.", "Did 2 cats see it?"):
            chunks, piece = list(streaming.stream(clause)), saying.say(clause)
            assert piece is not None
            joined = np.concatenate([chunk.samples for chunk in chunks])
            np.testing.assert_allclose(joined, piece.sound.samples, rtol=0, atol=1e-4)
            ends = [chunk.start + len(chunk.samples) for chunk in chunks]
            assert [chunk.start for chunk in chunks] == [0, *ends[:-1]]
            assert tuple(word for chunk in chunks for word in chunk.words) == piece.words
            for chunk, end in zip(chunks, ends, strict=True):
                assert all(chunk.start <= word.start < end for word in chunk.words)


def test_the_first_chunk_is_short_and_holds_the_pause(voice: Voice) -> None:
    speaking = voice.start(SpeakOptions(seed=0, plan=ChunkPlan(2, 2.0, 64)))
    speaking.say("A dog ran.")
    first = next(speaking.stream("It sat at home, did it not? It did so."))
    assert not first.samples[:1600].any()
    assert 1600 + 2 * voice.vocoder.hop <= len(first.samples) < 1600 + 5 * voice.vocoder.hop


def test_a_clause_without_words_has_no_chunks(voice: Voice) -> None:
    assert list(voice.start().stream("😀 !")) == []


def test_words_cover_the_sound(voice: Voice) -> None:
    for piece in voice.pieces("A dog ran home at 12:30, and it sat. Did 2 cats see it? No."):
        assert " ".join(word.text for word in piece.words) == piece.text
        assert piece.words[0].start == piece.pause
        assert piece.words[-1].end == len(piece.sound.samples)
        assert all(a.end == b.start for a, b in pairwise(piece.words))


def test_a_precision_that_the_processor_lacks_is_refused(folder: Path) -> None:
    with pytest.raises(AudioError, match="no products in float16"):
        Voice.load(folder, precision="float16")


def test_streams_of_two_texts_do_not_meet(voice: Voice) -> None:
    options = SpeakOptions(seed=1, plan=ChunkPlan(2, 1.0, 2))
    texts = ("A dog ran home.", "Did it see cats at home?")
    alone = [[c.samples for c in voice.start(options).stream(text)] for text in texts]
    streams = [voice.start(options).stream(text) for text in texts]
    together: list[list[np.ndarray]] = [[], []]
    for pair in zip_longest(*streams):
        for made, chunk in zip(together, pair, strict=True):
            if chunk is not None:
                made.append(chunk.samples)
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(np.concatenate(one), np.concatenate(other))


@pytest.mark.models
def test_real_voice_streams_what_it_says(model_folder: Callable[[str], Path]) -> None:
    voice = Voice.load(model_folder("en_US-joe-medium"))
    text = "The picture shows a small red teapot on a wooden table, next to an open window."
    piece = voice.start(SpeakOptions(seed=0, plan=ChunkPlan(9999, 1.0, 9999))).say(text)
    assert piece is not None
    chunks = list(voice.start(SpeakOptions(seed=0)).stream(text))
    assert len(chunks) > 4
    assert len(chunks[0].samples) < 0.15 * voice.sample_rate
    joined = np.concatenate([chunk.samples for chunk in chunks])
    np.testing.assert_allclose(joined, piece.sound.samples, rtol=0, atol=1e-4)
