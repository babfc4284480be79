"""CLIP and SigLIP of transformers against the library's own outputs, on small random models."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertModel,
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    CLIPVisionModel,
    PreTrainedTokenizerFast,
    SiglipConfig,
    SiglipImageProcessor,
    SiglipModel,
    SiglipVisionModel,
)

from vision.encoders import EncoderOptions, load_encoder
from vision.errors import VisionError
from vision.towers import TransformersClipEncoder

WORDS = ["cat", "red car", "espresso"]
VISION = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "image_size": 30,
    "patch_size": 10,
}
TEXT = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "vocab_size": 20,
    "max_position_embeddings": 12,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}


def picture() -> Image.Image:
    rng = np.random.default_rng(4)
    return Image.fromarray(rng.integers(0, 256, (50, 90, 3), dtype=np.uint8))


def save_tokenizer(folder: Path) -> None:
    words = ["<pad>", "<s>", "</s>", "<unk>", "a", "photo", "of", ".", *WORDS, "red", "car"]
    vocabulary = {word: index for index, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(folder)


def build(folder: Path, kind: str) -> Path:
    """Write a random model of this kind, with its processor and tokenizer."""
    torch.manual_seed(6)
    if kind.startswith("clip"):
        config: Any = CLIPConfig(vision_config=VISION, text_config=TEXT, projection_dim=20)
        model: Any = CLIPModel(config)
        processor: Any = CLIPImageProcessor(
            size={"shortest_edge": 30}, crop_size={"height": 30, "width": 30}
        )
        tower: Any = CLIPVisionModel
    else:
        config = SiglipConfig(vision_config=VISION, text_config=TEXT)
        model = SiglipModel(config)
        processor = SiglipImageProcessor(size={"height": 30, "width": 30})
        tower = SiglipVisionModel
    if kind.endswith("vision_model"):
        model = tower(config.vision_config)
    else:
        save_tokenizer(folder)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:  # the usual start is too small to tell pictures apart
                parameter.normal_(std=0.2)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    kinds = ("clip", "siglip", "clip_vision_model", "siglip_vision_model")
    return {kind: build(tmp_path_factory.mktemp(kind), kind) for kind in kinds}


@pytest.mark.parametrize(("kind", "cls"), [("clip", CLIPModel), ("siglip", SiglipModel)])
def test_logits_are_the_librarys_logits_per_image(
    folders: dict[str, Path], kind: str, cls: Any
) -> None:
    encoder = load_encoder(folders[kind])
    assert isinstance(encoder, TransformersClipEncoder)
    model = cls.from_pretrained(folders[kind]).eval()
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folders[kind])
    texts = tokenizer(
        [f"a photo of a {word}." for word in WORDS],
        padding="max_length" if kind == "siglip" else True,
        truncation=True,
        max_length=12,
        return_tensors="pt",
    )
    mask = {"attention_mask": texts["attention_mask"]} if kind == "clip" else {}
    processor = (CLIPImageProcessor if kind == "clip" else SiglipImageProcessor).from_pretrained(
        folders[kind]
    )
    pixels = processor(images=picture(), return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        out = model(
            input_ids=texts["input_ids"], pixel_values=pixels, output_hidden_states=True, **mask
        )
    features = encoder.encode(picture())
    directions = encoder.class_directions(WORDS)
    torch.testing.assert_close(features.pooled, out.image_embeds[0], atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(directions.weights, out.text_embeds, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(
        directions.logits(features.pooled), out.logits_per_image[0], atol=1e-5, rtol=1e-5
    )
    assert out.logits_per_image.std() > 1e-3
    assert features.grid == (3, 3)
    assert features.pooled.shape == ((20,) if kind == "clip" else (32,))
    assert features.patches.shape == (9, encoder.dim)


@pytest.mark.parametrize("layer", [-1, -2, -3])
@pytest.mark.parametrize(
    ("kind", "cls", "first"),
    [("clip_vision_model", CLIPVisionModel, 1), ("siglip_vision_model", SiglipVisionModel, 0)],
)
def test_a_tower_alone_gives_the_librarys_hidden_states(
    folders: dict[str, Path], kind: str, cls: Any, first: int, layer: int
) -> None:
    encoder = TransformersClipEncoder.load(folders[kind], EncoderOptions(layer=layer))
    model = cls.from_pretrained(folders[kind]).eval()
    processor = (CLIPImageProcessor if first else SiglipImageProcessor).from_pretrained(
        folders[kind]
    )
    pixels = processor(images=picture(), return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        out = model(pixel_values=pixels, output_hidden_states=True)
    features = encoder.encode(picture())
    torch.testing.assert_close(features.patches, out.hidden_states[layer][0, first:])
    torch.testing.assert_close(features.pooled, out.pooler_output[0])
    assert features.encoder == encoder.name == f"{kind}:{folders[kind].name}"
    with pytest.raises(VisionError, match="without a text side"):
        encoder.class_directions(WORDS)


def test_whole_model_and_tower_agree_on_patches(folders: dict[str, Path], tmp_path: Path) -> None:
    CLIPVisionModel.from_pretrained(folders["clip"]).save_pretrained(tmp_path)
    CLIPImageProcessor.from_pretrained(folders["clip"]).save_pretrained(tmp_path)
    tower, whole = load_encoder(tmp_path), load_encoder(folders["clip"])
    torch.testing.assert_close(tower.encode(picture()).patches, whole.encode(picture()).patches)


def test_what_is_not_a_tower_is_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(VisionError, match="There is no CLIP or SigLIP model"):
        TransformersClipEncoder.load(tmp_path / "missing")
    with pytest.raises(VisionError, match="Cannot load"):
        TransformersClipEncoder.load(tmp_path)
    with pytest.raises(VisionError, match="3 layers, so layer -4"):
        load_encoder(folders["clip"], EncoderOptions(layer=-4))
    with pytest.raises(VisionError, match="give the words"):
        load_encoder(folders["clip"]).class_directions([])
    BertModel(
        BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8)
    ).save_pretrained(tmp_path)
    with pytest.raises(VisionError, match="found bert"):
        load_encoder(tmp_path)


def test_incomplete_damaged_or_pickled_weights_are_refused(tmp_path: Path) -> None:
    folder = build(tmp_path, "clip")
    weights = folder / "model.safetensors"
    state = load_file(weights)
    name = "visual_projection.weight"
    save_file({k: v for k, v in state.items() if k != name}, weights, {"format": "pt"})
    with pytest.raises(VisionError, match=f"lack 1 tensors, {name}"):
        load_encoder(folder)
    save_file({**state, name: torch.zeros(3, 3)}, weights, {"format": "pt"})
    with pytest.raises(VisionError):
        load_encoder(folder)
    weights.write_bytes(weights.read_bytes()[:5000])
    with pytest.raises(VisionError, match="Cannot load"):
        load_encoder(folder)
    weights.unlink()
    torch.save(state, folder / "pytorch_model.bin")
    with pytest.raises(VisionError, match="Cannot load"):
        load_encoder(folder)
