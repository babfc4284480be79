"""Adapter weights on disk: safetensors whose header says what they join and how they were made."""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from fusion.errors import FusionError

#: Rises when the meaning of a tensor or of a header field changes.
FORMAT = "voxsight-adapter-1"


@dataclass(frozen=True)
class AdapterHeader:
    """What the file says about itself; written into safetensors' metadata as JSON.

    `shapes` is filled in from the tensors. `settings` are the adapter's own numbers, `measured`
    the figures on pictures it was not trained on.
    """

    kind: str
    encoder: str
    encoder_dim: int
    language_model: str
    hidden_size: int
    training_data: str
    licence: str
    command: str
    settings: dict[str, object] = field(default_factory=dict)
    measured: dict[str, float] = field(default_factory=dict)
    shapes: dict[str, list[int]] = field(default_factory=dict)


def save_adapter(path: Path, header: AdapterHeader, tensors: dict[str, Tensor]) -> None:
    """Write `tensors` with `header` to `path`, whole or not at all."""
    content = asdict(header) | {"shapes": {k: list(v.shape) for k, v in tensors.items()}}
    metadata = {"format": FORMAT, "adapter": json.dumps(content, ensure_ascii=False)}
    data = save({k: v.detach().contiguous() for k, v in tensors.items()}, metadata=metadata)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, scratch = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as out:
            out.write(data)
        Path(scratch).chmod(0o644)
        Path(scratch).replace(path)
    finally:
        Path(scratch).unlink(missing_ok=True)


def read_adapter(path: Path) -> tuple[AdapterHeader, dict[str, Tensor]]:
    """Header and tensors of an adapter file; FusionError if it is not one, or is damaged."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as problem:
        raise FusionError(
            f"expected an adapter file at {path}, but it cannot be read ({problem}); "
            "restore it or train it again"
        ) from None
    if metadata.get("format") != FORMAT:
        raise FusionError(
            f"expected an adapter of the format {FORMAT} in {path.name}, but it says "
            f"{metadata.get('format')!r}; train it again with this version"
        )
    header = _parse_header(path, metadata.get("adapter", ""))
    shapes = {name: list(tensor.shape) for name, tensor in tensors.items()}
    if shapes != header.shapes or not all(bool(torch.isfinite(t).all()) for t in tensors.values()):
        raise FusionError(
            f"expected finite tensors of the shapes {header.shapes} in {path.name}, but it holds "
            f"{shapes}; restore it or train it again"
        )
    return header, tensors


def _parse_header(path: Path, text: str) -> AdapterHeader:
    try:
        content = json.loads(text)
        known = {entry.name for entry in fields(AdapterHeader)}
        if not isinstance(content, dict) or (unknown := set(content) - known):
            raise TypeError(f"unknown fields {sorted(unknown)}")
        return AdapterHeader(**content)
    except (ValueError, TypeError) as problem:
        raise FusionError(
            f"expected a full header in the adapter {path.name}, but {problem}; train it again"
        ) from None


def check_pair(
    header: AdapterHeader, *, encoder: str, language_model: str, hidden_size: int
) -> None:
    """Refuse an adapter that joins other models than the loaded ones."""
    made_for = (header.encoder, header.language_model, header.hidden_size)
    loaded = (encoder, language_model, hidden_size)
    if made_for != loaded:
        raise FusionError(
            f"expected an adapter between {encoder} and {language_model} (width {hidden_size}), "
            f"but this one joins {header.encoder} and {header.language_model} (width "
            f"{header.hidden_size}); load those models or train an adapter for these"
        )
