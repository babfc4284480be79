"""CLIP and SigLIP image encoders of transformers: whole models, or a vision tower alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors import SafetensorError
from torch import Tensor
from torch.nn import functional as F
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoTokenizer,
    CLIPModel,
    CLIPVisionModel,
    SiglipModel,
    SiglipVisionModel,
)

from vision.encoders import ClassDirections, EncoderOptions, PatchEmbeddings
from vision.errors import VisionError
from vision.words import word_directions

# model type -> (class, whether it has a text side, whether a class token precedes the patches)
_MODELS: dict[str, tuple[Any, bool, bool]] = {
    "clip": (CLIPModel, True, True),
    "clip_vision_model": (CLIPVisionModel, False, True),
    "siglip": (SiglipModel, True, False),
    "siglip_vision_model": (SiglipVisionModel, False, False),
}
_LOADING_ERRORS = (
    OSError,
    RuntimeError,
    ValueError,
    TypeError,
    AttributeError,
    ImportError,
    LookupError,
    SafetensorError,
)


@dataclass(frozen=True, eq=False)
class TransformersClipEncoder:
    """CLIP or SigLIP as transformers holds it.

    Patches (n, d) are the hidden states of `options.layer` without the class token, which is what
    LLaVA feeds its projector (layer -2). Pooled (p,) is the normalised joint embedding of a whole
    model; a vision tower alone gives its pooler's output as it is.
    """

    model: Any = field(repr=False)
    processor: Any = field(repr=False)
    tokenizer: Any = field(repr=False)
    kind: str
    options: EncoderOptions
    name: str

    @classmethod
    def load(cls, folder: Path, options: EncoderOptions | None = None) -> TransformersClipEncoder:
        """Load config.json, preprocessor_config.json, safetensors and, with text, the tokenizer.

        Opens no socket. Raises VisionError where the folder is missing or holds something else.
        """
        options = options or EncoderOptions()
        if not folder.is_dir():
            raise VisionError(f"There is no CLIP or SigLIP model at {folder}; name its folder.")
        local: dict[str, Any] = {"local_files_only": True}
        try:
            kind = AutoConfig.from_pretrained(folder, **local).model_type
            if kind not in _MODELS:
                raise VisionError(
                    f"Expected a model of the kind {', '.join(_MODELS)} in {folder}, found {kind}."
                )
            model = _load_model(folder, kind)
            processor = AutoImageProcessor.from_pretrained(folder, **local)
            has_text = _MODELS[kind][1]
            tokenizer = AutoTokenizer.from_pretrained(folder, **local) if has_text else None
        except _LOADING_ERRORS as error:
            if isinstance(error, VisionError):
                raise
            reason = str(error).strip().split("\n")[0]
            raise VisionError(
                f"Cannot load a CLIP or SigLIP model from {folder}: {reason}; pull it again."
            ) from error
        _check_layer(model, options.layer)
        model.eval().requires_grad_(False).to(options.device)
        return cls(model, processor, tokenizer, kind, options, f"{kind}:{folder.resolve().name}")

    @property
    def dim(self) -> int:
        """Width d of a patch."""
        return int(_vision_config(self.model).hidden_size)

    @torch.no_grad()
    def encode(self, image: Image.Image) -> PatchEmbeddings:
        """Encode one picture with the processor that came with the model."""
        inputs = self.processor(images=image, return_tensors="pt")
        pixels = inputs["pixel_values"].to(self.options.device)
        _, has_text, has_class_token = _MODELS[self.kind]
        forward = self.model.get_image_features if has_text else self.model
        out = forward(pixel_values=pixels, output_hidden_states=True)
        hidden = out.hidden_states[self.options.layer][0].float().cpu()
        pooled = out.pooler_output[0].float().cpu()
        patch = _vision_config(self.model).patch_size
        grid = (pixels.shape[-2] // patch, pixels.shape[-1] // patch)
        return PatchEmbeddings(
            hidden[1:].contiguous() if has_class_token else hidden,
            F.normalize(pooled, dim=-1) if has_text else pooled,
            grid,
            self.name,
        )

    @torch.no_grad()
    def class_directions(self, names: Sequence[str] | None = None) -> ClassDirections:
        """Embed any words; `logits(pooled)` equals the model's own `logits_per_image`."""
        if self.tokenizer is None:
            raise VisionError(
                f"{self.name} is a vision tower without a text side, so it knows no words; "
                "use the whole CLIP or SigLIP model."
            )
        bias = getattr(self.model, "logit_bias", None)
        return word_directions(
            names,
            self.options.templates,
            self._embed,
            scale=float(self.model.logit_scale.exp()),
            bias=0.0 if bias is None else float(bias),
        )

    def _embed(self, texts: list[str]) -> Tensor:
        """Map b texts to (b, p)."""
        length = self.model.config.text_config.max_position_embeddings
        # SigLIP was trained with every text padded to the full length and reads the last place.
        padding = "max_length" if self.kind == "siglip" else True
        tokens = self.tokenizer(
            texts, padding=padding, truncation=True, max_length=length, return_tensors="pt"
        ).to(self.options.device)
        arguments = {"input_ids": tokens["input_ids"]}
        if self.kind == "clip":
            arguments["attention_mask"] = tokens["attention_mask"]
        embedded: Tensor = self.model.get_text_features(**arguments).pooler_output
        return embedded


def _load_model(folder: Path, kind: str) -> Any:
    """Load safetensors in float32, refusing a file that leaves weights at their random start."""
    model, info = _MODELS[kind][0].from_pretrained(
        folder,
        local_files_only=True,
        use_safetensors=True,
        dtype=torch.float32,
        output_loading_info=True,
    )
    missing = sorted(name for name in info["missing_keys"] if not name.endswith("position_ids"))
    if missing:
        raise VisionError(
            f"The weights in {folder} lack {len(missing)} tensors, {missing[0]} among them; "
            "pull the model again."
        )
    return model


def _vision_config(model: Any) -> Any:
    return getattr(model.config, "vision_config", model.config)


def _check_layer(model: Any, layer: int) -> None:
    depth = int(_vision_config(model).num_hidden_layers)
    if -layer > depth:
        raise VisionError(f"This tower has {depth} layers, so layer {layer} does not exist.")
