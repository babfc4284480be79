"""Sound and pictures for the fake devices of a browser, made by our own voice."""

import base64
import io
import wave
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from playwright.sync_api import Page

from audio.pcm import Samples, Sound, from_pcm16, to_pcm16
from audio.resample import resample
from audio.tts import Voice

RATE = 48_000  # what Chromium's fake microphone runs at

#: A microphone that plays a file when it is told to, through the browser's own stream.
_MICROPHONE = """
  const context = new AudioContext();
  const microphone = context.createMediaStreamDestination();
  navigator.mediaDevices.getUserMedia = async () => {
    await context.resume();
    return microphone.stream.clone();
  };
  window.speak = async (data) => {
    const file = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
    const source = context.createBufferSource();
    source.buffer = await context.decodeAudioData(file.buffer);
    source.connect(microphone);
    const begun = performance.now();
    source.start();
    return { begun, end: begun + source.buffer.duration * 1000 };
  };
"""


def hold_microphone(page: Page) -> None:
    """From the next page on, the microphone says what ``speak`` gives it, and else nothing."""
    page.add_init_script(_MICROPHONE)


def speak(page: Page, file: bytes) -> dict[str, Any]:
    """Say a WAV file into the page's microphone; when it ``begun`` and will ``end``, in ms."""
    times: dict[str, Any] = page.evaluate("speak", base64.b64encode(file).decode())
    return times


def said(voice: Voice, text: str) -> Samples:
    """A sentence at ``RATE``, from its first sound to its last."""
    sound = voice.speak(text)
    samples = resample(sound.samples, sound.rate, RATE)
    loud = np.flatnonzero(np.abs(samples) > 0.02)
    return samples[loud[0] : loud[-1] + 1]


def pause(seconds: float) -> Samples:
    """Silence at ``RATE``."""
    return np.zeros(int(seconds * RATE), np.float32)


def wav(*parts: Samples) -> bytes:
    """A file of all parts."""
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(RATE)
        out.writeframes(to_pcm16(np.concatenate(parts)).astype("<i2").tobytes())
    return file.getvalue()


def mjpeg(file: Path, pictures: Sequence[Image.Image], size: tuple[int, int] = (640, 480)) -> Path:
    """A film for the fake camera, which shows it over and over."""
    with file.open("wb") as out:
        for picture in pictures:
            picture.convert("RGB").resize(size).save(out, "JPEG", quality=90)
    return file


def sound_of(pcm: bytes, rate: int) -> Sound:
    """PCM16 as the recogniser takes it."""
    return Sound(resample(from_pcm16(pcm), rate, 16_000))
