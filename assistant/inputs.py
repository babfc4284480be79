"""Checks and reads what a user gives: sound and pictures, within the limits of the settings."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from assistant.config import Settings
from assistant.errors import VoxsightError
from audio.media import MediaLimits, read_sound
from audio.pcm import SAMPLE_RATE, Sound
from audio.resample import resample
from vision.image import ImageLimits, read_image

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True)
class Question:
    """What is asked: by voice, in writing, or both; about a picture, or not.

    Attributes:
        audio: a sound or video file, or mono sound of any rate.
        image: a picture file, or its bytes.
        text: the question in writing; with ``audio``, it follows what was heard.
        speak: whether the answer is spoken.
    """

    audio: Path | Sound | None = None
    image: Path | bytes | None = None
    text: str | None = None
    speak: bool = True

    def __post_init__(self) -> None:
        if self.audio is None and not (self.text or "").strip():
            raise VoxsightError(
                "Expected a question, spoken or written, but got neither; give audio or text."
            )


def media_limits(settings: Settings) -> MediaLimits:
    """The limits for sound files that the settings name."""
    return MediaLimits(
        max_duration_s=settings.max_audio_s, max_decoded_bytes=settings.max_decoded_audio_bytes
    )


def read_question_sound(source: Path | Sound, settings: Settings) -> Sound:
    """The question's sound at 16 kHz."""
    if isinstance(source, Sound):
        return Sound(resample(source.samples, source.rate, SAMPLE_RATE), SAMPLE_RATE)
    return read_sound(source, limits=media_limits(settings))


def read_question_image(source: Path | bytes, settings: Settings) -> "Image":
    """The picture, upright and fully decoded."""
    limits = ImageLimits(max_pixels=settings.max_image_pixels, max_bytes=settings.max_image_bytes)
    return read_image(source, limits)
