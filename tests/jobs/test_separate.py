"""The beds of a sound: windows that overlap, whatever the model, and weights that do not fit."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torchaudio.models import HDemucs

from assistant.errors import ConfigError
from assistant.jobs.dub import separate
from assistant.jobs.dub.separate import RATE, SOURCES, HybridDemucs
from tests.jobs.dub_samples import noise, write_sound


class _HalfIsVoice(torch.nn.Module):
    """Says that half of everything is a voice."""

    def forward(self, mix: torch.Tensor) -> torch.Tensor:
        parts = torch.zeros(1, len(SOURCES), *mix.shape[1:])
        parts[:, SOURCES.index("vocals")] = 0.5 * mix
        return parts


@pytest.mark.parametrize("seconds", [0.5, 10.0, 10.5, 21.3])
def test_the_windows_join_without_a_seam(seconds: float, tmp_path: Path) -> None:
    sound = noise(seconds, RATE)
    original = write_sound(tmp_path / "original.flac", sound, RATE)
    HybridDemucs(_HalfIsVoice(), "half").beds(original, tmp_path / "beds.flac")
    beds, rate = soundfile.read(tmp_path / "beds.flac")
    # What is taken is half of each window, but for its mean, which is next to nothing here.
    assert (rate, beds.shape) == (RATE, sound.shape)
    np.testing.assert_allclose(beds, 0.5 * sound, atol=1e-3)


def test_a_real_network_of_small_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(separate, "_WINDOW_S", 2)
    torch.manual_seed(0)
    model = HDemucs(sources=list(SOURCES), channels=4, depth=6, nfft=4096).eval()
    original = write_sound(tmp_path / "original.flac", noise(3.0, RATE), RATE)
    HybridDemucs(model, "small").beds(original, tmp_path / "beds.flac")
    assert soundfile.info(tmp_path / "beds.flac").frames == 3 * RATE


def test_refuses_other_weights(tmp_path: Path) -> None:
    torch.save({"one": torch.zeros(1)}, tmp_path / "other.pt")
    with pytest.raises(ConfigError, match="Expected the weights of torchaudio's hdemucs_high"):
        HybridDemucs.load(tmp_path / "other.pt", "key")
    with pytest.raises(ConfigError, match="No such file"):
        HybridDemucs.load(tmp_path / "none.safetensors", "key")
