"""Voices for dubbing: as long as they say, the same each time, one for each speaker."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from assistant.errors import ConfigError
from assistant.jobs.dub import pauses
from assistant.jobs.dub.voices import DubVoice, MmsVoice, PiperVoice, assign_voices, load_voice
from audio.errors import AudioError


@pytest.fixture
def mms_folder(tmp_path: Path) -> Path:
    """A VITS voice of transformers with random weights."""
    from transformers import VitsConfig, VitsModel, VitsTokenizer

    folder = tmp_path / "mms-tts-tiny"
    folder.mkdir()
    letters = {sign: at for at, sign in enumerate("_abcdefghijklmnopqrstuvwxyzäöü' -")}
    (folder / "vocab.json").write_text(json.dumps(letters))
    tokenizer = VitsTokenizer(
        folder / "vocab.json", pad_token="_", unk_token="-", phonemize=False, language="deu"
    )
    tokenizer.save_pretrained(folder)
    config = VitsConfig(
        vocab_size=len(letters),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        ffn_dim=16,
        flow_size=8,
        spectrogram_bins=9,
        upsample_initial_channel=8,
        upsample_rates=[4, 2],
        upsample_kernel_sizes=[8, 4],
        resblock_kernel_sizes=[3],
        resblock_dilation_sizes=[[1]],
        prior_encoder_num_flows=2,
        posterior_encoder_num_wavenet_layers=1,
        prior_encoder_num_wavenet_layers=1,
        wavenet_dilation_rate=1,
        depth_separable_num_layers=1,
        duration_predictor_num_flows=2,
        duration_predictor_filter_channels=8,
    )
    torch.manual_seed(0)
    VitsModel(config).save_pretrained(folder)
    return folder


TEXT = "Guten Tag, schöne Welt!"


@pytest.mark.parametrize("rate", [0.85, 1.0, 1.25])
@pytest.mark.parametrize("seed", [0, 7])
def test_mms_is_as_long_as_it_says(mms_folder: Path, rate: float, seed: int) -> None:
    voice = load_voice(mms_folder)
    assert isinstance(voice, MmsVoice)
    assert (voice.name, voice.sample_rate) == ("mms-tts-tiny", 16_000)
    before = torch.random.get_rng_state()
    said = voice.say(TEXT, rate, seed)
    assert len(said.samples) == voice.measure(TEXT, rate, seed) > 0
    own = voice.measure(TEXT, 1.0, seed)
    assert len(said.samples) == pytest.approx(own / rate, abs=16)  # two frames
    np.testing.assert_array_equal(said.samples, voice.say(TEXT, rate, seed).samples)
    assert [word.text for word in said.words] == ["Guten", "Tag,", "schöne", "Welt!"]
    assert [word.start for word in said.words[1:]] == [word.end for word in said.words[:-1]]
    assert (said.words[0].start, said.words[-1].end) == (0, len(said.samples))
    # Nobody else's random numbers are touched.
    assert torch.equal(before, torch.random.get_rng_state())


def test_mms_equals_transformers(mms_folder: Path) -> None:
    from transformers import VitsModel, VitsTokenizer

    model = VitsModel.from_pretrained(mms_folder).eval()
    ids = VitsTokenizer.from_pretrained(mms_folder)(TEXT, return_tensors="pt")["input_ids"]
    torch.manual_seed(3)
    with torch.no_grad():
        wanted = model(ids).waveform[0].numpy()
    np.testing.assert_array_equal(load_voice(mms_folder).say(TEXT, 1.0, 3).samples, wanted)


def test_mms_with_nothing_to_say(mms_folder: Path) -> None:
    voice = load_voice(mms_folder)
    assert voice.measure("123 ...", 1.0, 0) == 0
    assert len(voice.say("123 ...", 1.0, 0).samples) == 0


PAUSING = [
    "Bonjour ! Ça va, a — b.",
    "— Well, — he said, — come in... please! Mr. Smith is at home: 5 p.m. it is.",
    "First, second; third & last - no, not yet: now.",
]


def pauses_as_planned(voice: DubVoice, text: str) -> bool:
    """Whether a line that is planned to pause longer is as long as planned."""
    said = voice.say(text, 1.0, 0)
    assert [word for one in said.words for word in one.text.split()] == text.split()
    made = pauses.lengthened(said, 900, voice.sample_rate)
    added = len(made.samples) - len(said.samples)
    places = sum(
        after.end - after.start > before.end - before.start
        for before, after in zip(said.words, made.words, strict=True)
    )
    return places == pauses.count(text) and added == 900 * voice.sample_rate // 1000


@pytest.mark.parametrize("text", PAUSING)
def test_mms_pauses_as_planned(mms_folder: Path, text: str) -> None:
    assert pauses_as_planned(load_voice(mms_folder), text)


@pytest.mark.models
@pytest.mark.parametrize("text", PAUSING)
def test_piper_pauses_as_planned(model_folder: Callable[[str], Path], text: str) -> None:
    assert pauses_as_planned(load_voice(model_folder("en_US-joe-medium")), text)


def test_mms_shares_the_time_where_words_do_not_match(mms_folder: Path) -> None:
    said = load_voice(mms_folder).say("Um 12 Uhr", 1.0, 0)  # the voice cannot read digits
    assert [word.text for word in said.words] == ["Um", "12", "Uhr"]
    assert said.words[-1].end == len(said.samples)


@pytest.mark.parametrize(("key", "needs"), [("phonemize", "espeak"), ("is_uroman", "uroman")])
def test_mms_refuses_what_it_cannot_read(mms_folder: Path, key: str, needs: str) -> None:
    file = mms_folder / "tokenizer_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), key: True}))
    with pytest.raises(ConfigError, match=needs):
        load_voice(mms_folder)


def test_refuses_a_folder_without_a_voice(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="should be a folder with one voice"):
        load_voice(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "vits"}')
    with pytest.raises(ConfigError, match="Expected a VITS voice"):
        load_voice(tmp_path)


@pytest.mark.models
@pytest.mark.parametrize("text", ["Hello, world.", "One. Two! (Three?)", '"Yes"... ', "so it goes"])
def test_piper_is_as_long_as_it_says(model_folder: Callable[[str], Path], text: str) -> None:
    voice = load_voice(model_folder("en_US-joe-medium"))
    assert isinstance(voice, PiperVoice)
    said = voice.say(text, 1.1, 5)
    assert len(said.samples) == voice.measure(text, 1.1, 5)
    assert [word.text for word in said.words] == text.split()
    assert all(word.start < word.end for word in said.words)
    assert said.words[-1].end <= len(said.samples)
    # What is left before the first and after the last phoneme is short, and no click.
    level = np.abs(said.samples).max()
    loud = np.flatnonzero(np.abs(said.samples) > 0.05 * level) / voice.sample_rate
    assert loud[0] < 0.12
    assert len(said.samples) / voice.sample_rate - loud[-1] < 0.25
    assert np.abs(said.samples[:20]).max() < 0.05 * level


@pytest.mark.models
def test_piper_with_nothing_to_say(model_folder: Callable[[str], Path]) -> None:
    voice = load_voice(model_folder("en_US-joe-medium"))
    assert voice.measure("...", 1.0, 0) == len(voice.say("...", 1.0, 0).samples) == 0


def test_speakers_get_voices_in_turn() -> None:
    assert assign_voices(["A", "B", "A", "C"], ["x", "y"], {}) == {"A": "x", "B": "y", "C": "x"}
    assert assign_voices(["A", "B"], ["x"], {}) == {"A": "x", "B": "x"}
    assert assign_voices([], ["x"], {}) == {}


def test_a_chosen_voice_is_not_given_to_others_while_there_are_more() -> None:
    voices = assign_voices(["A", "B", "C"], ["x", "y"], {"B": "x"})
    assert voices == {"A": "y", "B": "x", "C": "y"}
    assert assign_voices(["A", "B"], ["x"], {"A": "x"}) == {"A": "x", "B": "x"}
    assert assign_voices(["A"], ["x"], {"A": "other"}) == {"A": "other"}


def test_refuses_a_voice_for_nobody() -> None:
    with pytest.raises(ConfigError, match="a speaker of A, B, got one for 'Z'"):
        assign_voices(["A", "B"], ["x"], {"Z": "x"})
