"""Models of a user's own, named by folder: any CLIP joins any language model."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from assistant.assets import asset
from assistant.config import Settings
from assistant.errors import ConfigError, ModelStoreError
from assistant.loading import Models
from fusion.dictionary import DictionaryAdapter
from fusion.errors import FusionError
from fusion.projector import MlpProjector
from tests.fusion.tiny import HIDDEN, byte_tokenizer, tiny_decoder
from tests.vision.test_towers import VISION, build, picture


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A tiny CLIP and a tiny language model, as folders of transformers."""
    root = tmp_path_factory.mktemp("models")
    build(root / "clip", "clip")
    tiny_decoder().model.save_pretrained(root / "lm")
    byte_tokenizer().save_pretrained(root / "lm")
    return {"image_encoder": str(root / "clip"), "language_model": str(root / "lm")}


def models(tmp_path: Path, folders: dict[str, str], **changes: Any) -> Models:
    chosen = {"cache_dir": tmp_path / "cache", "offline": True, "threads": 1, **folders, **changes}
    return Models(Settings(**chosen))


def test_clip_and_language_model_of_ones_own_are_joined_by_a_dictionary(
    tmp_path: Path, folders: dict[str, str]
) -> None:
    words = tmp_path / "words.txt"
    words.write_text("cat\n\nred car\ncat\nphoto\n")
    loaded = models(tmp_path, folders, vocabulary=words)
    adapter = loaded.adapter
    assert isinstance(adapter, DictionaryAdapter)
    assert adapter.directions.names == ("cat", "red car", "photo")
    seen = adapter(loaded.encoder.encode(picture()))
    assert seen.embeddings.shape[1] == HIDDEN
    assert {guess.name for guess in seen.guesses} <= {"cat", "red car", "photo"}
    assert sum(guess.probability for guess in seen.guesses) == pytest.approx(1.0, abs=1e-4)


def test_without_a_vocabulary_clip_gets_the_thousand_names(
    tmp_path: Path, folders: dict[str, str]
) -> None:
    adapter = models(tmp_path, folders).adapter
    assert isinstance(adapter, DictionaryAdapter)
    assert len(adapter.directions.names) == 998  # two of the thousand names occur twice


def test_llava_projector(tmp_path: Path, folders: dict[str, str]) -> None:
    width = VISION["hidden_size"]
    tensors = {
        "multi_modal_projector.linear_1.weight": torch.randn(HIDDEN, width),
        "multi_modal_projector.linear_1.bias": torch.randn(HIDDEN),
        "multi_modal_projector.linear_2.weight": torch.randn(HIDDEN, HIDDEN),
        "multi_modal_projector.linear_2.bias": torch.randn(HIDDEN),
    }
    save_file(tensors, tmp_path / "llava.safetensors")
    loaded = models(tmp_path, folders, adapter=f"llava:{tmp_path / 'llava.safetensors'}")
    assert isinstance(loaded.adapter, MlpProjector)
    features = loaded.encoder.encode(picture())
    assert loaded.adapter(features).embeddings.shape == (len(features.patches), HIDDEN)


def test_adapter_made_for_other_models_is_refused(tmp_path: Path, folders: dict[str, str]) -> None:
    shipped = next(asset("adapters").glob("*.safetensors"))
    with pytest.raises(FusionError, match="efficientnet-lite0"):
        _ = models(tmp_path, folders, adapter=str(shipped)).adapter


@pytest.mark.parametrize(("content", "message"), [("\n \n", "empty"), (None, "Cannot read")])
def test_bad_vocabulary(
    tmp_path: Path, folders: dict[str, str], content: str | None, message: str
) -> None:
    words = tmp_path / "words.txt"
    if content is not None:
        words.write_text(content)
    with pytest.raises(ConfigError, match=message):
        _ = models(tmp_path, folders, vocabulary=words).adapter


def test_folder_with_two_gguf_files_is_ambiguous(tmp_path: Path) -> None:
    for name in ("a.gguf", "b.gguf"):
        (tmp_path / name).write_bytes(b"GGUF")
    with pytest.raises(ConfigError, match="Expected one GGUF file"):
        models(tmp_path, {"language_model": str(tmp_path)}).language_model_folder()


def test_plain_folder_needs_no_conversion(tmp_path: Path, folders: dict[str, str]) -> None:
    loaded = models(tmp_path, folders)
    assert loaded.language_model_folder() == Path(folders["language_model"])
    cache = loaded.prompt_cache()
    assert len(cache) > 0
    cache.crop(0)
    assert len(loaded.prompt_cache()) > 0  # each conversation has its own copy


def test_hub_reference_offline_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(ModelStoreError, match="owner/model could not be had"):
        models(tmp_path, {}).folder("hub:owner/model@main")
