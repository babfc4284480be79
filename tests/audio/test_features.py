"""The fast features against the definition, against other libraries, and streamed against whole."""

import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from faster_whisper.feature_extractor import FeatureExtractor
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import WhisperFeatureExtractor

from audio.errors import AudioError
from audio.features import dispatch, reference
from audio.features.cpu import is_compiled
from audio.features.dispatch import REFERENCE, Kernel, kernel_for, use_kernel
from audio.features.log_mel import log10_mel, log_mel
from audio.features.plan import mel_plan
from audio.features.stream import FeatureStream, advance
from audio.media import read_sound
from audio.pcm import Samples

ROOT = Path(__file__).parents[2]
BANDS = (80, 128)


def noise(count: int, seed: int = 0, level: float = 0.1) -> Samples:
    return (np.random.default_rng(seed).standard_normal(count) * level).astype(np.float32)


def speech() -> Samples:
    return read_sound(ROOT / "assets" / "demo" / "question.wav").samples


def tone(hz: float, count: int = 16_000, level: float = 0.5) -> Samples:
    return (level * np.sin(2 * np.pi * hz * np.arange(count) / 16_000)).astype(np.float32)


def impulse() -> Samples:
    samples = np.zeros(8_000, np.float32)
    samples[4_321] = 1.0
    return samples


SOUNDS: dict[str, Callable[[], Samples]] = {
    "speech": speech,
    "noise": lambda: noise(16_000),
    "faint noise": lambda: noise(16_000, level=1e-5),
    "loud noise": lambda: noise(16_000, level=20.0),
    "low tone": lambda: tone(60.0),
    "tone between bins": lambda: tone(1_017.3),
    "nyquist": lambda: tone(8_000.0) + tone(7_999.0),
    "constant": lambda: np.full(8_000, 0.25, np.float32),
    "silence": lambda: np.zeros(8_000, np.float32),
    "impulse": impulse,
    "two frames": lambda: noise(401),
    "one frame": lambda: noise(160),
    "tone in silence": lambda: np.concatenate((np.zeros(8_000, np.float32), tone(440.0, 4_000))),
}


@pytest.mark.parametrize("n_mels", BANDS)
@pytest.mark.parametrize("name", SOUNDS)
def test_as_defined(name: str, n_mels: int) -> None:
    sound = SOUNDS[name]()
    ours = log_mel(sound, n_mels)
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours, reference.log_mel(sound, n_mels), atol=1e-4, rtol=0)


@pytest.mark.parametrize("n_mels", BANDS)
def test_as_transformers_and_faster_whisper_on_speech(n_mels: int) -> None:
    sound = speech()
    padding = 480_000 - len(sound)
    ours = log_mel(sound, n_mels, padding)
    theirs = WhisperFeatureExtractor(feature_size=n_mels)(
        sound, sampling_rate=16_000, return_tensors="np"
    )["input_features"][0]
    np.testing.assert_allclose(ours, theirs, atol=1e-3, rtol=0)
    padded = np.concatenate((sound, np.zeros(padding, np.float32)))
    theirs = FeatureExtractor(feature_size=n_mels)(padded, padding=0)
    np.testing.assert_allclose(ours, theirs[:, :3000], atol=1e-3, rtol=0)


@given(n=st.integers(1, 2_500), seed=st.integers(0, 5))
@settings(max_examples=60, deadline=None)
def test_every_length_has_the_frames_of_the_definition(n: int, seed: int) -> None:
    sound = noise(n, seed)
    ours, wanted = log10_mel(sound), reference.log10_mel(sound)
    assert ours.shape == wanted.shape == (80, n // 160)
    np.testing.assert_allclose(ours, wanted, atol=1e-4, rtol=0)


@pytest.mark.parametrize("n_mels", [1, 7, 80, 128, 201])
def test_the_sparse_filters_are_the_filters(n_mels: int) -> None:
    plan, filters = mel_plan(n_mels), np.zeros((n_mels, 201), np.float32)
    at = 0
    for row, first, bins in zip(filters, plan.first_bin, plan.bins, strict=True):
        row[first : first + bins] = plan.weights[at : at + bins]
        at += bins
    np.testing.assert_array_equal(filters, reference.mel_filters(n_mels).astype(np.float32))


@given(begin=st.integers(0, 40), frames=st.integers(1, 40))
@settings(max_examples=40, deadline=None)
def test_a_frame_does_not_depend_on_its_neighbours(begin: int, frames: int) -> None:
    sound, kernel = noise(80 * 160 + 240), kernel_for("cpu")
    whole, part = np.empty((80, 80), np.float32), np.empty((80, frames), np.float32)
    kernel.log10_frames(sound, whole, 0, 80)
    kernel.log10_frames(sound[begin * 160 :], part, 0, frames)
    np.testing.assert_array_equal(part, whole[:, begin : begin + frames])


sizes = st.lists(st.integers(1, 50_000), min_size=1, max_size=12)


@given(sizes=sizes, n_mels=st.sampled_from(BANDS))
@settings(max_examples=25, deadline=None)
def test_chunked_equals_whole_bit_for_bit(sizes: list[int], n_mels: int) -> None:
    sound = noise(sum(sizes))
    stream = FeatureStream(n_mels, keep_frames=100_000)
    new = [stream.push(chunk) for chunk in np.split(sound, np.cumsum(sizes)[:-1])]
    assert sum(new) == stream.frames == max(0, (len(sound) - 200) // 160 + 1) * (len(sound) > 200)
    whole = log10_mel(sound, n_mels)
    certain = min(stream.frames, whole.shape[1])
    np.testing.assert_array_equal(stream.log10(0, certain), whole[:, :certain])


@given(sizes=sizes, begin=st.integers(0, 200), frames=st.integers(1, 3000))
@settings(max_examples=25, deadline=None)
def test_a_window_is_the_sound_followed_by_silence(
    sizes: list[int], begin: int, frames: int
) -> None:
    sound = noise(sum(sizes))
    stream = FeatureStream(keep_frames=100_000)
    for chunk in np.split(sound, np.cumsum(sizes)[:-1]):
        stream.push(chunk)
    silence = np.zeros(max(0, (begin + frames + 5) * 160 - len(sound)), np.float32)
    wanted = log10_mel(np.concatenate((sound, silence)))[:, begin : begin + frames].copy()
    kernel_for().clamp(wanted)
    np.testing.assert_array_equal(stream.window(begin, frames), wanted)
    np.testing.assert_array_equal(stream.window(begin, frames), wanted)  # it left no trace


def test_a_window_of_a_stream_that_has_heard_little_or_nothing() -> None:
    stream = FeatureStream()
    np.testing.assert_array_equal(stream.window(0, 10), np.full((80, 10), -1.5, np.float32))
    stream.push(noise(150))
    np.testing.assert_array_equal(stream.window(0, 10), log_mel(noise(150), padding=1450))
    assert stream.frames == 0


def test_memory_is_flat_once_the_window_is_full() -> None:
    stream, sizes, tick = FeatureStream(keep_frames=300), [], noise(1_600)
    for _ in range(400):
        stream.push(tick)
        sizes.append(stream.nbytes)
    assert len(set(sizes[100:])) == 1
    assert stream.frames == 3_999
    assert stream.first == 3_699
    sound = np.tile(tick, 400)
    np.testing.assert_array_equal(stream.log10(3_699, 3_999), log10_mel(sound)[:, 3_699:3_999])
    with pytest.raises(AudioError, match="frames between 3699 and 3999"):
        stream.window(3_698)
    with pytest.raises(AudioError, match="keeps the last 300"):
        stream.log10(3_990, 4_000)


def test_a_push_longer_than_what_is_kept() -> None:
    stream, sound = FeatureStream(keep_frames=50), noise(400_000)
    assert stream.push(sound) == 2_499
    np.testing.assert_array_equal(stream.log10(2_449, 2_499), log10_mel(sound)[:, 2_449:2_499])


@given(
    pushes=st.lists(st.lists(st.integers(0, 3_000), min_size=3, max_size=3), max_size=6),
)
@settings(max_examples=25, deadline=None)
def test_many_streams_advance_as_each_would_alone(pushes: list[list[int]]) -> None:
    alone, together = ([FeatureStream() for _ in range(3)] for _ in range(2))
    for turn, lengths in enumerate(pushes):
        chunks = [noise(length, seed=10 * turn + i) for i, length in enumerate(lengths)]
        wanted = [stream.push(chunk) for stream, chunk in zip(alone, chunks, strict=True)]
        assert advance(together, chunks) == wanted
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one.window(0), other.window(0))


def test_advance_refuses_what_does_not_fit_together_and_takes_nothing() -> None:
    one, two = FeatureStream(), FeatureStream()
    good, bad = noise(1_600), np.full(1_600, np.nan, np.float32)
    with pytest.raises(AudioError, match="NaN"):
        advance([one, two], [good, bad])
    assert one.samples == two.samples == 0
    with pytest.raises(AudioError, match="one chunk for each"):
        advance([one, two], [good])
    with pytest.raises(AudioError, match="same one twice"):
        advance([one, one], [good, good])
    with pytest.raises(AudioError, match="one kernel"):
        advance([one, FeatureStream(128)], [good, good])


BAD = {
    "NaN": (np.array([0.0, np.nan], np.float32), "NaN or infinity"),
    "infinity": (np.array([0.0, -np.inf], np.float32), "NaN or infinity"),
    "long NaN": (np.append(noise(20_000), np.float32(np.nan)), "NaN or infinity"),
    "int16": (np.array([1, 2], np.int16), "from_pcm16"),
    "int16 as float": (np.array([12_000, -3_000], np.float32), "32768"),
    "float64": (np.zeros(10), "float64"),
    "two channels": (np.zeros((10, 2), np.float32), "mix the channels"),
    "a list": ([0.0], "NumPy array"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_sound_is_refused_at_every_border(name: str) -> None:
    samples, message = BAD[name]
    stream = FeatureStream()
    stream.push(noise(1_600))
    before = stream.window(0)
    for take in (stream.push, log_mel, log10_mel, lambda s: log_mel(s, padding=160)):
        with pytest.raises(AudioError, match=message):
            take(samples)  # type: ignore[operator]
    assert stream.samples == 1_600
    np.testing.assert_array_equal(stream.window(0), before)


def test_other_borders() -> None:
    with pytest.raises(AudioError, match="resample"):
        log_mel(noise(100), rate=8_000)
    with pytest.raises(AudioError, match="resample"):
        FeatureStream().push(noise(100), rate=44_100)
    with pytest.raises(AudioError, match="got none"):
        log_mel(noise(0))
    with pytest.raises(AudioError, match="padding"):
        log_mel(noise(100), padding=-1)
    with pytest.raises(AudioError, match="mel bands"):
        log_mel(noise(400), 0)
    with pytest.raises(AudioError, match="keep 1 or more"):
        FeatureStream(keep_frames=0)
    assert FeatureStream().push(noise(0)) == 0


@pytest.mark.parametrize("kernel", [kernel_for("cpu"), REFERENCE], ids=lambda kernel: kernel.name)
def test_a_kernel_reads_and_writes_only_what_it_may(kernel: Kernel) -> None:
    out = np.zeros((80, 5), np.float32)
    for samples, column, frames in ((noise(400), 0, 2), (noise(560), 4, 2), (noise(400), -1, 1)):
        with pytest.raises(AudioError, match="expected"):
            kernel.log10_frames(samples, out, column, frames)
    with pytest.raises(AudioError, match="contiguous"):
        kernel.log10_frames(noise(1_120)[::2], out, 0, 2)
    with pytest.raises(AudioError, match="contiguous float32"):
        kernel.log10_frames(noise(560), out.astype(np.float64), 0, 2)
    kernel.log10_frames(noise(560), out, 1, 2)
    assert (out[:, 1:3] != 0).all()
    assert (out[:, [0, 3, 4]] == 0).all()


def test_a_test_may_put_another_kernel_in_place() -> None:
    with use_kernel(REFERENCE):
        assert kernel_for("cpu") is kernel_for("cuda") is REFERENCE
        slow = log_mel(speech())
    np.testing.assert_allclose(slow, log_mel(speech()), atol=1e-4, rtol=0)
    assert kernel_for("cpu").name == "cpu"
    with pytest.raises(AudioError, match="'cpu' or 'cuda'"):
        kernel_for("tpu")


def test_threads_share_the_kernel() -> None:
    sounds = [noise(48_000, seed) for seed in range(8)]
    wanted = [log_mel(sound) for sound in sounds]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(5):
            for got, want in zip(pool.map(log_mel, sounds), wanted, strict=True):
                np.testing.assert_array_equal(got, want)


def test_compiling_is_announced_once(monkeypatch: pytest.MonkeyPatch) -> None:
    remarks: list[str] = []
    monkeypatch.setattr("audio.features.cpu.is_compiled", lambda: False)
    dispatch.prepare(remarks.append)
    assert remarks == ["Compiling the sound features, once; this takes some seconds."]
    monkeypatch.undo()
    dispatch.prepare(remarks.append)
    assert len(remarks) == 1
    assert is_compiled()


def test_who_compiles_gets_the_bits_that_all_others_get(tmp_path: Path) -> None:
    code = (
        "import hashlib, numpy\n"
        "from audio.features.log_mel import log_mel\n"
        "noise = numpy.random.default_rng(0).standard_normal(32_000).astype('float32')\n"
        "print(hashlib.sha256(log_mel(noise).tobytes()).hexdigest())\n"
    )
    place = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-c", code]
    first, later = (subprocess.check_output(command, cwd=ROOT, env=place) for _ in range(2))
    assert first == later


def test_a_new_process_finds_the_compiled_kernel_and_imports_no_torch() -> None:
    log_mel(noise(1_600))  # compiles, should this be the first test of all
    code = (
        "import sys, numpy\n"
        "from audio.features.cpu import is_compiled\n"
        "from audio.features.stream import FeatureStream\n"
        "assert is_compiled()\n"
        "assert FeatureStream().push(numpy.zeros(1600, 'float32')) == 9\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120, cwd=ROOT)
