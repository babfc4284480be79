"""OpenCLIP image encoders: patches for an adapter, and any list of words as class directions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import open_clip
import torch
from PIL import Image
from safetensors import SafetensorError
from torch import Tensor
from torch.nn import functional as F

from vision.encoders import ClassDirections, EncoderOptions, PatchEmbeddings
from vision.errors import VisionError
from vision.words import word_directions

_LOADING_ERRORS = (
    OSError,
    RuntimeError,
    ValueError,
    TypeError,
    AttributeError,
    LookupError,
    SafetensorError,
)


@dataclass(frozen=True, eq=False)
class OpenClipEncoder:
    """A CLIP-like model of open_clip (ViT, SigLIP through timm, ResNet).

    Patches (n, d) come from the block `options.layer`, before the final norm and the projection;
    pooled (p,) is the normalised joint embedding, so p is the width of the joint space.
    """

    model: Any = field(repr=False)
    transform: Callable[[Image.Image], Tensor] = field(repr=False)
    tokenizer: Callable[[list[str]], Tensor] = field(repr=False)
    options: EncoderOptions
    name: str
    dim: int

    @classmethod
    def load(
        cls,
        source: Path | str,
        model_name: str | None = None,
        options: EncoderOptions | None = None,
    ) -> OpenClipEncoder:
        """Load from a folder (open_clip_config.json and safetensors), a file, or the hub.

        A file of safetensors needs `model_name`, one of open_clip's own, such as "ViT-B-32".
        `hf-hub:owner/name` uses the network. Raises VisionError with the reason otherwise.
        """
        options = options or EncoderOptions()
        identifier, pretrained, label = _locate(source, model_name)
        try:
            model, transform = open_clip.create_model_from_pretrained(
                identifier, pretrained=pretrained, device=options.device
            )
            tokenizer = open_clip.get_tokenizer(identifier)
        except _LOADING_ERRORS as error:
            raise VisionError(
                f"Cannot load the OpenCLIP model {source}: {error}; pull it again."
            ) from error
        model.eval().requires_grad_(False)
        blank = torch.zeros(1, 3, *_size(model), device=options.device)
        dim = int(_layer(model, blank, options)[0].shape[1])
        return cls(model, transform, tokenizer, options, f"open_clip:{label}", dim)

    @torch.no_grad()
    def encode(self, image: Image.Image) -> PatchEmbeddings:
        """Encode one picture with the preprocessing that the model was trained with."""
        pixels = self.transform(image).unsqueeze(0).to(self.options.device)
        features, pooled = _layer(self.model, pixels, self.options)
        grid = features[0].float().cpu()  # (d, rows, cols)
        joint = F.normalize(pooled[0].float().cpu(), dim=-1)
        patches = grid.flatten(1).T.contiguous()
        return PatchEmbeddings(patches, joint, (grid.shape[1], grid.shape[2]), self.name)

    @torch.no_grad()
    def class_directions(self, names: Sequence[str] | None = None) -> ClassDirections:
        """Embed any words; `logits(pooled)` equals the model's own logits for the picture."""
        logit_bias = self.model.logit_bias
        return word_directions(
            names,
            self.options.templates,
            lambda texts: self.model.encode_text(self.tokenizer(texts).to(self.options.device)),
            scale=float(self.model.logit_scale.exp()),
            bias=0.0 if logit_bias is None else float(logit_bias),
        )


def _locate(source: Path | str, model_name: str | None) -> tuple[str, str | None, str]:
    """Return open_clip's identifier, the path of the weights if it wants one, and a label."""
    if str(source).startswith("hf-hub:"):
        return str(source), None, str(source).removeprefix("hf-hub:")
    path = Path(source)
    if path.is_dir():
        # open_clip would fall back to pickled weights, which may run code.
        if not any(path.glob("*.safetensors")):
            raise VisionError(
                f"Expected safetensors weights in {path}, found none; convert or pull them."
            )
        return f"local-dir:{path}", None, path.resolve().name
    if not path.is_file():
        raise VisionError(f"There is no OpenCLIP model at {path}; pull it or name its folder.")
    known = open_clip.list_models()
    if model_name is None or model_name not in known or path.suffix != ".safetensors":
        raise VisionError(
            "A single OpenCLIP checkpoint must be a .safetensors file with a model name that "
            f"open_clip knows, such as ViT-B-32; got {path.name} and {model_name!r}."
        )
    return model_name, str(path), model_name


def _size(model: Any) -> tuple[int, int]:
    size = model.visual.image_size
    return (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))


@torch.no_grad()
def _layer(model: Any, pixels: Tensor, options: EncoderOptions) -> tuple[Tensor, Tensor]:
    """Return the chosen block's output (1, d, rows, cols) and the pooled embedding (1, p)."""
    try:
        # Asking for the last block too: open_clip's ResNet stops at the last one asked for, and
        # would pool that.
        out = model.visual.forward_intermediates(
            pixels, indices=[options.layer, -1], output_fmt="NCHW", normalize_intermediates=False
        )
    except (AssertionError, AttributeError, IndexError, TypeError) as error:
        raise VisionError(
            f"This OpenCLIP model gives no patches at layer {options.layer}; "
            "choose a layer nearer to the end (-1 is the last), or a ViT."
        ) from error
    return out["image_intermediates"][0], out["image_features"]
