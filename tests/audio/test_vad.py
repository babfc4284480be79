"""Speech is found as the reference finds it, however the stream is cut."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from audio import vad as vad_module
from audio.errors import AudioError
from audio.pcm import Samples
from audio.vad import BLOCK, SileroVad, VadState


@pytest.fixture(scope="module")
def vad() -> SileroVad:
    return SileroVad.load()


def voice_like(samples: int) -> Samples:
    """A buzz with two formants that comes and goes, in a little noise."""
    noise = np.random.default_rng(7).standard_normal(samples) * 0.01
    time = np.arange(samples) / 16_000
    pitch = 120 * time + 3 * np.sin(2 * np.pi * 0.9 * time)
    buzz = sum(
        np.cos(2 * np.pi * k * pitch)
        * (np.exp(-(((120 * k - 600) / 250) ** 2)) + 0.5 * np.exp(-(((120 * k - 1500) / 300) ** 2)))
        for k in range(1, 25)
    )
    loudness = np.clip(np.sin(2 * np.pi * 1.7 * time), 0, None)
    return np.asarray(0.1 * buzz * loudness + noise, np.float32)


@pytest.fixture(scope="module")
def recording(model_folder: Callable[[str], Path]) -> Samples:
    path = model_folder("sample-speech") / "en" / "quick_brown_fox.wav"
    samples, rate = soundfile.read(path, dtype="float32")
    assert rate == 16_000 and samples.ndim == 1
    return np.asarray(samples, np.float32)


def push_all(vad: SileroVad, samples: Samples, sizes: list[int]) -> tuple[Samples, VadState]:
    """Push in chunks of the given sizes, over and over."""
    found: list[Samples] = []
    state, at = VadState(), 0
    while at < len(samples):
        size = sizes[len(found) % len(sizes)]
        found.append(vad.push(state, samples[at : at + size]))
        at += size
    return np.concatenate(found), state


SOUND = voice_like(24_000)


@settings(max_examples=40, deadline=None)
@given(sizes=st.lists(st.integers(1, 5000), min_size=1, max_size=8), length=st.integers(1, 24_000))
def test_chunked_equals_whole_bit_for_bit(vad: SileroVad, sizes: list[int], length: int) -> None:
    whole = vad.push(VadState(), SOUND[:length])
    assert whole.shape == (length // BLOCK,) and whole.dtype == np.float32
    chunked, state = push_all(vad, SOUND[:length], sizes)
    np.testing.assert_array_equal(chunked, whole)
    assert state.position == length // BLOCK * BLOCK


def test_the_sound_of_the_property_test_is_speech_in_part(vad: SileroVad) -> None:
    found = vad.push(VadState(), SOUND)
    assert found.max() > 0.5 and found.min() < 0.1


def test_a_long_sound_takes_several_runs(vad: SileroVad, monkeypatch: pytest.MonkeyPatch) -> None:
    one_run = vad.push(VadState(), SOUND)
    monkeypatch.setattr(vad_module, "_BLOCKS_PER_RUN", 5)
    np.testing.assert_array_equal(vad.push(VadState(), SOUND), one_run)


def test_streams_do_not_touch_each_other(vad: SileroVad) -> None:
    other = voice_like(20_000)[::-1].copy()
    alone = [vad.push(VadState(), sound) for sound in (SOUND, other)]
    states = VadState(), VadState()
    mixed: tuple[list[Samples], list[Samples]] = ([], [])
    for at in range(0, 24_000, 700):
        for sound, state, found in zip((SOUND, other), states, mixed, strict=True):
            found.append(vad.push(state, sound[at : at + 700]))
    for expected, found in zip(alone, mixed, strict=True):
        np.testing.assert_array_equal(np.concatenate(found), expected)


def test_the_state_holds_only_what_is_needed(vad: SileroVad) -> None:
    state = VadState()
    vad.push(state, SOUND[:5000])
    assert len(state.tail) == 64 + 5000 % BLOCK
    assert state.tail.base is None  # no view that would keep the whole sound in memory


def test_silence_is_no_speech(vad: SileroVad) -> None:
    assert vad.push(VadState(), np.zeros(16_000, np.float32)).max() < 0.1
    assert vad.push(VadState(), np.zeros(0, np.float32)).shape == (0,)


@pytest.mark.models
def test_probabilities_are_those_of_faster_whisper(vad: SileroVad, recording: Samples) -> None:
    from faster_whisper.vad import SileroVADModel

    # Its last block loses 64 samples, so one more is appended and left out of the comparison.
    blocks = len(recording) // BLOCK
    padded = np.concatenate((recording[: blocks * BLOCK], np.zeros(BLOCK, np.float32)))
    expected = SileroVADModel(str(vad_module._packaged_model()))(padded)[:-1]
    chunked, _ = push_all(vad, recording, [160, 4000, 37])
    np.testing.assert_allclose(chunked, expected, atol=1e-6)
    assert (expected > 0.9).any()


def test_loading_does_not_import_faster_whisper() -> None:
    code = (
        "import sys; from audio.vad import SileroVad; SileroVad.load(); "
        "sys.exit('faster_whisper' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=120, check=False).returncode == 0


@pytest.mark.parametrize(
    "samples",
    [np.zeros(600), np.zeros((2, 600), np.float32), np.full(600, np.nan, np.float32)],
    ids=["float64", "stereo", "nan"],
)
def test_bad_samples_are_refused_and_leave_the_state(vad: SileroVad, samples: Samples) -> None:
    state = VadState()
    vad.push(state, SOUND[:700])
    with pytest.raises(AudioError, match="expected"):
        vad.push(state, samples)
    rest = vad.push(state, SOUND[700:3000])
    np.testing.assert_array_equal(rest, vad.push(VadState(), SOUND[:3000])[1:])


def test_an_absent_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match=r"nothing\.onnx, found no file"):
        SileroVad.load(tmp_path / "nothing.onnx")


def test_an_absent_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(AudioError, match="faster-whisper package"):
        SileroVad.load()


def test_a_damaged_model_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "damaged.onnx"
    path.write_bytes(b"no model")
    with pytest.raises(AudioError, match=r"cannot be loaded \(InvalidProtobuf\)"):
        SileroVad.load(path)


def test_another_model_is_refused(tmp_path: Path) -> None:
    value = onnx.helper.make_tensor_value_info
    float32 = onnx.TensorProto.FLOAT
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Relu", ["x"], ["y"])],
        "other",
        [value("x", float32, [1, 4])],
        [value("y", float32, [1, 4])],
    )
    opset = onnx.helper.make_opsetid("", 17)
    model = onnx.helper.make_model(graph, ir_version=8, opset_imports=[opset])
    onnx.save(model, tmp_path / "other.onnx")
    with pytest.raises(AudioError, match=r"got \{'x': 4\}"):
        SileroVad.load(tmp_path / "other.onnx")
