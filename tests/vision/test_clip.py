"""OpenCLIP encoders against open_clip's own forward pass, on small random checkpoints."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file

from vision.clip import OpenClipEncoder
from vision.encoders import EncoderOptions, ImageEncoder, load_encoder
from vision.errors import VisionError

WORDS = ["cat", "red sports car", "espresso"]
TEXT = {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2}
VIT = {"image_size": 32, "patch_size": 8, "width": 48, "layers": 3, "head_width": 16}
RESNET = {"image_size": 64, "layers": [1, 1, 1, 1], "width": 16, "head_width": 16}
SIGLIP = {
    "image_size": 32,
    "timm_model_name": "vit_voxsight_test",
    "timm_model_pretrained": False,
    "timm_pool": "map",
    "timm_proj": "none",
}
CONFIGS: dict[str, dict[str, Any]] = {
    "vit": {"embed_dim": 24, "vision_cfg": VIT, "text_cfg": TEXT},
    "resnet": {"embed_dim": 24, "vision_cfg": RESNET, "text_cfg": TEXT},
    "siglip": {
        "embed_dim": 32,
        "init_logit_bias": -10,
        "custom_text": True,
        "vision_cfg": SIGLIP,
        "text_cfg": {**TEXT, "no_causal_mask": True, "pool_type": "last"},
    },
}


def vit_voxsight_test(pretrained: bool = False, **options: Any) -> Any:
    """A SigLIP-like trunk small enough for a test: no class token, pooled by attention."""
    known = {key: options[key] for key in ("num_classes", "global_pool")}
    shape = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 3, "num_heads": 2}
    return timm.models.VisionTransformer(**shape, class_token=False, **known)


timm.models.register_model(vit_voxsight_test)


def picture() -> Image.Image:
    rng = np.random.default_rng(3)
    return Image.fromarray(rng.integers(0, 256, (50, 90, 3), dtype=np.uint8))


def build(folder: Path, config: dict[str, Any]) -> Path:
    """Write a random model in open_clip's folder layout."""
    folder.mkdir()
    torch.manual_seed(5)
    kinds = open_clip.CustomTextCLIP if config.get("custom_text") else open_clip.CLIP
    model = kinds(**{key: value for key, value in config.items() if key != "custom_text"})
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:  # the usual start is too small to tell pictures apart
                parameter.normal_(std=0.1)
    save_file(
        {name: tensor.contiguous() for name, tensor in model.state_dict().items()},
        folder / "open_clip_model.safetensors",
    )
    preprocess = {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.4], "interpolation": "bicubic"}
    text = {"model_cfg": config, "preprocess_cfg": preprocess}
    (folder / "open_clip_config.json").write_text(json.dumps(text))
    return folder


@pytest.fixture(scope="module", params=list(CONFIGS))
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("clip") / request.param, CONFIGS[request.param])


def library(folder: Path) -> tuple[Any, Any, Any]:
    model, transform = open_clip.create_model_from_pretrained(f"local-dir:{folder}")
    return model.eval(), transform, open_clip.get_tokenizer(f"local-dir:{folder}")


def test_pooled_and_directions_give_the_librarys_logits(folder: Path) -> None:
    model, transform, tokenizer = library(folder)
    encoder: ImageEncoder = load_encoder(folder)
    assert isinstance(encoder, OpenClipEncoder)
    features = encoder.encode(picture())
    directions = encoder.class_directions(WORDS)
    with torch.no_grad():
        pixels = transform(picture()).unsqueeze(0)
        texts = tokenizer([f"a photo of a {word}." for word in WORDS])
        image_logits, _ = model.get_logits(pixels, texts)
        pooled = model.encode_image(pixels, normalize=True)[0]
    torch.testing.assert_close(features.pooled, pooled, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(
        directions.logits(features.pooled), image_logits[0], atol=1e-5, rtol=1e-5
    )
    assert directions.names == tuple(WORDS)
    assert directions.logits(features.pooled).std() > 1e-3


@pytest.mark.parametrize("layer", [-1, -2])
def test_patches_are_the_blocks_output(folder: Path, layer: int) -> None:
    model, transform, _ = library(folder)
    visual = model.visual
    if folder.name == "resnet":
        block = [visual.layer1, visual.layer2, visual.layer3, visual.layer4][layer]
    else:
        trunk = visual.trunk.blocks if folder.name == "siglip" else visual.transformer.resblocks
        block = trunk[layer]
    seen: list[torch.Tensor] = []
    block.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    with torch.no_grad():
        model.encode_image(transform(picture()).unsqueeze(0))
    raw = seen[0]
    if raw.ndim == 4:
        expected = raw[0].flatten(1).T
    else:
        tokens = raw[0] if raw.shape[0] == 1 else raw[:, 0]
        expected = tokens if folder.name == "siglip" else tokens[1:]  # drop the class token
    features = (encoder := load_encoder(folder, EncoderOptions(layer=layer))).encode(picture())
    torch.testing.assert_close(features.patches, expected, atol=1e-6, rtol=1e-5)
    assert features.patches.shape == (features.grid[0] * features.grid[1], encoder.dim)


def test_templates_are_averaged(folder: Path) -> None:
    model, _, tokenizer = library(folder)
    templates = ("{}", "a drawing of {}.")
    encoder = OpenClipEncoder.load(folder, options=EncoderOptions(templates=templates))
    with torch.no_grad():
        expected = sum(
            model.encode_text(tokenizer([template.format(word) for word in WORDS]), normalize=True)
            for template in templates
        )
    expected = torch.nn.functional.normalize(torch.as_tensor(expected), dim=-1)
    torch.testing.assert_close(encoder.class_directions(WORDS).weights, expected)


def test_a_large_vocabulary_is_cut_in_batches(folder: Path) -> None:
    encoder = load_encoder(folder)
    words = [f"thing {index}" for index in range(300)]
    whole = encoder.class_directions(words)
    torch.testing.assert_close(
        whole.weights[250:280], encoder.class_directions(words[250:280]).weights
    )
    with pytest.raises(VisionError, match="give the words"):
        encoder.class_directions()


def test_a_single_file_with_a_known_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = build(tmp_path / "vit", CONFIGS["vit"])
    (folder / "tiny-vit.json").write_text(json.dumps(CONFIGS["vit"]))
    open_clip.add_model_config(folder / "tiny-vit.json")
    weights = folder / "open_clip_model.safetensors"
    encoder = OpenClipEncoder.load(weights, "tiny-vit")
    assert encoder.name == "open_clip:tiny-vit"
    assert encoder.encode(picture()).grid == (4, 4)
    for model_name in (None, "no-such-model"):
        with pytest.raises(VisionError, match="model name that open_clip knows"):
            OpenClipEncoder.load(weights, model_name)


def test_what_is_not_an_openclip_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(VisionError, match="There is no OpenCLIP model"):
        OpenClipEncoder.load(tmp_path / "missing")
    folder = build(tmp_path / "vit", CONFIGS["vit"])
    with pytest.raises(VisionError, match="no patches at layer -4"):
        load_encoder(folder, EncoderOptions(layer=-4))
    weights = folder / "open_clip_model.safetensors"
    good = weights.read_bytes()
    weights.write_bytes(good[: len(good) // 2])
    with pytest.raises(VisionError, match="Cannot load the OpenCLIP model"):
        load_encoder(folder)
    weights.write_bytes(good)
    (folder / "open_clip_config.json").write_text("{}")
    with pytest.raises(VisionError, match="Cannot load the OpenCLIP model"):
        load_encoder(folder)
    weights.rename(folder / "open_clip_pytorch_model.bin")
    with pytest.raises(VisionError, match="Expected safetensors"):
        load_encoder(folder)


def test_a_hub_name_without_network_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_args: object, **_kwargs: object) -> None:
        raise RuntimeError("Failed initial config/weights load from HF Hub")

    monkeypatch.setattr(open_clip, "create_model_from_pretrained", refuse)
    with pytest.raises(VisionError, match="hf-hub:nobody/nothing: Failed"):
        load_encoder("hf-hub:nobody/nothing")
