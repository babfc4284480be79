"""The unmodified ``openai`` SDK, in its own environment, against a server with real models."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from audio.media import read_sound
from audio.pcm import to_pcm16
from audio.resample import resample
from tests.live import Live

pytestmark = pytest.mark.models

SCENARIOS = (
    *("text", "audio_out", "audio_out_mulaw", "audio_in", "manual_turn", "image", "tool_call"),
    *("transcription_session", "cancel", "truncate", "out_of_band", "errors"),
    *("transcriptions", "speech", "chat_image", "chat_stream", "models"),
)
HEARD = {"audio_in", "manual_turn", "transcription_session", "transcriptions"}
DRIVER = Path(__file__).with_name("sdk_drive.py")


@pytest.fixture(scope="module")
def sdk_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Python with the SDK and its realtime extra, which wants other websockets than ours."""
    if given := os.environ.get("OPENAI_SDK_PYTHON"):
        return Path(given)
    folder = tmp_path_factory.mktemp("sdk")
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    python = folder / "bin" / "python"
    install = [python, "-m", "pip", "install", "--quiet", "openai[realtime]>=3,<4"]
    done = subprocess.run(install, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"the SDK cannot be installed: {done.stderr.strip()[-300:]}")
    return python


@pytest.fixture(scope="module")
def files(model_folder: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the driver sends: a sentence as a file and as PCM16 at 24 kHz, and a photo."""
    folder = tmp_path_factory.mktemp("files")
    recording = model_folder("sample-speech") / "en" / "quick_brown_fox.wav"
    (folder / "speech.wav").write_bytes(recording.read_bytes())
    sound = read_sound(recording)
    pcm = to_pcm16(resample(sound.samples, sound.rate, 24_000)).astype("<i2")
    (folder / "speech.pcm").write_bytes(pcm.tobytes())
    photo = model_folder("sample-photos") / "rocket.jpg"
    (folder / "photo.jpg").write_bytes(photo.read_bytes())
    return folder


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_the_sdk_drives(scenario: str, sdk_python: Path, live_server: Live, files: Path) -> None:
    command = [sdk_python, "-W", "error", DRIVER, scenario, live_server.base_url, files]
    environment = {k: v for k, v in os.environ.items() if "proxy" not in k.lower()}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    if scenario in HEARD:
        assert "fox" in told["transcript"].lower()
    assert live_server.state.admission.sessions == 0
