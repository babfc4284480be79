from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from assistant.config import Settings
from assistant.errors import VoxsightError
from assistant.inputs import Question, media_limits, read_question_image, read_question_sound
from audio.errors import AudioError
from audio.media import write_wav
from audio.pcm import Sound
from vision.errors import VisionError


def tone(seconds: float, rate: int) -> Sound:
    time = np.arange(round(seconds * rate)) / rate
    return Sound((0.5 * np.sin(2 * np.pi * 440 * time)).astype(np.float32), rate)


def test_a_question_needs_words_or_a_voice() -> None:
    for text in (None, "", "  "):
        with pytest.raises(VoxsightError, match="Expected a question"):
            Question(image=b"picture", text=text)
    assert Question(text="What?").audio is None


def test_sound_of_any_rate_comes_at_16_khz(tmp_path: Path) -> None:
    file = tmp_path / "tone.wav"
    write_wav(file, tone(0.5, 44_100))
    for source in (file, tone(0.5, 22_050)):
        sound = read_question_sound(source, Settings())
        assert sound.rate == 16_000
        assert sound.duration_s == pytest.approx(0.5, abs=1e-3)


def test_limits_of_the_settings_hold(tmp_path: Path) -> None:
    settings = Settings(max_audio_s=0.2, max_image_pixels=100)
    file = tmp_path / "tone.wav"
    write_wav(file, tone(0.5, 16_000))
    assert media_limits(settings).max_duration_s == 0.2
    with pytest.raises(AudioError, match="longer"):
        read_question_sound(file, settings)
    picture = tmp_path / "picture.png"
    Image.new("RGB", (20, 20)).save(picture)
    with pytest.raises(VisionError):
        read_question_image(picture, settings)
    assert read_question_image(picture.read_bytes(), Settings()).size == (20, 20)
