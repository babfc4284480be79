import json
from pathlib import Path
from typing import Any

import pytest
import torch

from assistant.bench.decode import measure_decode, perplexity, start_seconds
from assistant.config import Settings
from assistant.errors import ConfigError, VoxsightError
from assistant.loading import Models
from fusion.decoder import Decoder
from fusion.quantize_file import is_quantised
from tests.fusion.test_gguf import tiny_model, write_gguf
from tests.fusion.tiny import byte_tokenizer, tiny_decoder


def settings(tmp_path: Path, model: Path, **changes: Any) -> Settings:
    cache = tmp_path / "cache"
    return Settings(cache_dir=cache, offline=True, threads=1, language_model=str(model), **changes)


@pytest.fixture(scope="module")
def gguf_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gguf")
    write_gguf(folder / "tiny.gguf", tiny_model("qwen2"))
    return folder


@pytest.fixture(scope="module")
def plain_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plain") / "lm"
    tiny_decoder().model.save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder


def test_a_gguf_model_is_quantised_unless_told_otherwise(gguf_folder: Path, tmp_path: Path) -> None:
    remarks: list[str] = []
    chosen = settings(tmp_path, gguf_folder)
    first = Models(chosen, remark=remarks.append).language_model_folder()
    assert is_quantised(first)
    assert Models(chosen, remark=remarks.append).language_model_folder() == first
    assert len(remarks) == 1  # made once
    assert not [p for p in first.parent.iterdir() if p.is_dir() and p != first]  # nothing left over
    plain = Models(settings(tmp_path, gguf_folder, quantization="none")).language_model_folder()
    assert not is_quantised(plain)
    assert (plain / "model.safetensors").is_file()


def test_a_folder_of_ones_own_is_quantised_on_demand(plain_folder: Path, tmp_path: Path) -> None:
    assert Models(settings(tmp_path, plain_folder)).language_model_folder() == plain_folder
    models = Models(settings(tmp_path, plain_folder, quantization="int8"))
    assert is_quantised(models.language_model_folder())
    assert models.decoder.name == "lm"
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(ConfigError, match="Expected weights to quantise"):
        Models(settings(tmp_path, empty, quantization="int8")).language_model_folder()


def test_perplexity_is_that_of_transformers_own_loss(plain_folder: Path) -> None:
    decoder = Decoder.load(plain_folder, dtype=torch.float32)
    text = "The tide tables hung on a nail beside the door."
    ids = torch.tensor(decoder.token_ids(text))[None]
    with torch.inference_mode():
        loss = decoder.model(input_ids=ids, labels=ids).loss
    assert perplexity(decoder, text) == pytest.approx(float(loss.exp()), rel=1e-3)
    with pytest.raises(VoxsightError, match="two tokens or more"):
        perplexity(decoder, "a")


def test_each_token_is_predicted_once_whatever_the_window_and_step(
    plain_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoder = Decoder.load(plain_folder, dtype=torch.float32)
    text = "twenty-one characters"
    whole = perplexity(decoder, text)
    seen: list[int] = []
    logits = type(decoder.network).logits

    def counted(network: Any, rows: torch.Tensor, memory: Any, keep: int) -> torch.Tensor:
        seen.append(len(rows))
        return logits(network, rows, memory, keep)

    monkeypatch.setattr(type(decoder.network), "logits", counted)
    for window, step in ((1, 1), (7, 3), (20, 16), (512, 1), (512, 9)):
        monkeypatch.setattr("assistant.bench.decode._WINDOW", window)
        seen.clear()
        found = perplexity(decoder, text, step)
        assert sum(seen) == 20
        assert max(seen) == min(window, step, 20)
        assert (found == pytest.approx(whole, rel=1e-3)) == (window >= 20)


def test_figures_of_a_tiny_model(gguf_folder: Path, tmp_path: Path) -> None:
    told: list[str] = []
    figures = measure_decode(
        settings(tmp_path, gguf_folder), tokens=3, rounds=1, starts=1, progress=told.append
    )
    summary = json.loads(json.dumps(figures.summary()))
    assert set(summary) >= {"vs_transformers_bf16", "perplexity_increase", "start_s"}
    assert summary["vs_transformers_bf16"] == pytest.approx(
        figures.tokens_per_s / figures.tokens_per_s_transformers, abs=1e-3
    )
    assert abs(summary["perplexity_increase"]) < 0.2
    assert set(summary["prefill_ms"]) == set(summary["prefill_ms_transformers"]) == {"40", "500"}
    assert summary["start_s"] > 0
    assert told


def test_a_process_that_cannot_start_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(VoxsightError, match="Expected a fresh process to answer"):
        start_seconds(settings(tmp_path, tmp_path / "none"), 1)
