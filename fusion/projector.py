"""The MLP projector of LLaVA: every patch becomes one soft token."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.nn import functional as F

from fusion.adapter import ImageFeatures, SoftTokens, check_features
from fusion.errors import FusionError

# Spellings of the two layers: transformers' Llava (old and new), and the original repository's.
_SPELLINGS = (
    ("model.multi_modal_projector.linear_1", "model.multi_modal_projector.linear_2"),
    ("multi_modal_projector.linear_1", "multi_modal_projector.linear_2"),
    ("model.mm_projector.0", "model.mm_projector.2"),
    ("mm_projector.0", "mm_projector.2"),
    ("linear_1", "linear_2"),
)


class MlpProjector(nn.Module):
    """Two linear layers with a GELU between (LLaVA-1.5: Liu et al., arXiv:2310.03744).

    Soft tokens: one for each patch (n, hidden), in the patches' order.
    """

    def __init__(self, encoder: str, dim: int, hidden: int) -> None:
        super().__init__()
        self.encoder, self.dim = encoder, dim
        self.linear_1 = nn.Linear(dim, hidden)
        self.linear_2 = nn.Linear(hidden, hidden)

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor], encoder: str) -> MlpProjector:
        """Take the layers out of `tensors`, whichever of LLaVA's spellings they have.

        FusionError if none fits, or if a layer is missing.
        """
        layers = next((pair for pair in _SPELLINGS if f"{pair[0]}.weight" in tensors), None)
        if layers is None:
            raise FusionError(
                "expected LLaVA's projector (multi_modal_projector.linear_1 or mm_projector.0), "
                f"but found only {sorted(tensors)[:4]}; give the folder of a LLaVA model"
            )
        names = {
            f"linear_{number}.{part}": f"{layer}.{part}"
            for number, layer in enumerate(layers, 1)
            for part in ("weight", "bias")
        }
        if missing := [name for name in names.values() if name not in tensors]:
            raise FusionError(
                f"expected two layers with biases in LLaVA's projector, but {missing[0]} is "
                "missing; fetch the model again"
            )
        hidden, dim = tensors[names["linear_1.weight"]].shape
        projector = cls(encoder, dim, hidden)
        projector.load_state_dict({new: tensors[old].float() for new, old in names.items()})
        return projector.eval().requires_grad_(False)

    @classmethod
    def from_llava(cls, source: Path, encoder: str) -> MlpProjector:
        """Load the projector of a LLaVA model's folder or of a single weights file."""
        return cls.from_tensors(_projector_tensors(source), encoder)

    def forward(self, patches: Tensor) -> Tensor:
        """Map patches (n, dim) to soft tokens (n, hidden)."""
        hidden: Tensor = self.linear_2(F.gelu(self.linear_1(patches)))
        return hidden

    def __call__(self, features: ImageFeatures) -> SoftTokens:
        """The picture's soft tokens; FusionError for another encoder's features."""
        check_features(features, self.encoder, self.dim)
        with torch.inference_mode():
            return SoftTokens(self.forward(features.patches.to(self.linear_1.weight)))


def _projector_tensors(source: Path) -> dict[str, Tensor]:
    """Only the projector's tensors, from whichever files of `source` hold them."""
    tensors: dict[str, Tensor] = {}
    for path in _weight_files(source):
        try:
            if path.suffix == ".safetensors":
                with safe_open(path, framework="pt") as file:
                    wanted = [name for name in file.keys() if _is_projector(name)]  # noqa: SIM118
                    tensors |= {name: file.get_tensor(name) for name in wanted}
            else:
                # weights_only: a pickle that does more than name tensors is refused by torch
                loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
                tensors |= {k: v for k, v in loaded.items() if _is_projector(k)}
        except (OSError, SafetensorError, RuntimeError, AttributeError, ValueError) as problem:
            raise FusionError(
                f"expected LLaVA weights in {path}, but they cannot be read ({problem}); "
                "fetch the file again"
            ) from None
    return tensors


def _is_projector(name: str) -> bool:
    return "projector" in name or name.startswith("linear_")


def _weight_files(source: Path) -> list[Path]:
    """The files to look into: an index names the right shard; pickles only without safetensors."""
    if source.is_file():
        return [source]
    index = source / "model.safetensors.index.json"
    if index.is_file():
        shards = json.loads(index.read_text("utf-8"))["weight_map"]
        return sorted({source / file for name, file in shards.items() if _is_projector(name)})
    found = sorted(source.glob("*.safetensors")) or sorted(source.glob("*.bin"))
    if not found:
        raise FusionError(
            f"expected LLaVA weights (*.safetensors or mm_projector.bin) in {source}, but there "
            "are none; give the folder of a LLaVA model"
        )
    return found
