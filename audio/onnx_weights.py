"""Reads a voice's weights out of its ONNX file, under the names its training code gave them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
import torch
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import numpy_helper

from audio.errors import AudioError

_EMBEDDING = "enc_p.emb.weight"
_AFFINE_SCALE = "dp.flows.0.scale"
_AFFINE_EXP = "/dp/flows.0/Exp_output_0"


@dataclass(frozen=True)
class VoiceWeights:
    """Float tensors by training name, with what the shapes alone cannot tell."""

    tensors: dict[str, torch.Tensor]
    strides: dict[str, int] = field(default_factory=dict)
    dilations: dict[str, int] = field(default_factory=dict)
    source: str = "the voice"

    def take(self, name: str, *shape: int | None) -> torch.Tensor:
        """The tensor `name`, whose shape must be `shape` (None: any size).

        Raises AudioError if it is absent or shaped otherwise.
        """
        tensor = self.tensors.get(name)
        if tensor is None:
            raise AudioError(
                f"{self.source} is not a VITS voice that this program can read: it lacks the "
                f"weight {name}; choose a single-speaker Piper voice (.onnx)."
            )
        fits = len(shape) == tensor.ndim and all(
            want in (None, got) for want, got in zip(shape, tensor.shape, strict=True)
        )
        if shape and not fits:
            wanted = "x".join("?" if size is None else str(size) for size in shape)
            came = "x".join(str(size) for size in tensor.shape)
            raise AudioError(
                f"{self.source}: the weight {name} should have the shape {wanted} but has {came}; "
                f"choose a single-speaker Piper voice (.onnx)."
            )
        return tensor

    def count(self, pattern: str) -> int:
        """How many of `pattern.format(0)`, `pattern.format(1)`, ... are there without a gap."""
        number = 0
        while pattern.format(number) in self.tensors:
            number += 1
        return number


def read_voice_weights(path: Path) -> VoiceWeights:
    """Read the initialisers of a VITS voice exported by Piper.

    The exporter renames some of them: convolutions whose weight norm was folded carry a number
    instead of a name (their bias tells which they are), the phoneme embedding is whatever the
    encoder's Gather reads, and the affine flow's log-scale is stored as the folded exp(-logs).

    Raises AudioError for a file that is missing or is no ONNX model.
    """
    graph = _read_graph(path)
    raw = {item.name: item for item in graph.initializer}
    renamed, strides, dilations = _conv_facts(graph, set(raw))
    embedding = _embedding_name(graph, set(raw))
    if embedding:
        renamed[embedding] = _EMBEDDING
    if _AFFINE_EXP in raw:
        renamed[_AFFINE_EXP] = _AFFINE_SCALE
    tensors = {
        renamed.get(name, name): _to_tensor(item)
        for name, item in raw.items()
        if item.data_type == onnx.TensorProto.FLOAT
    }
    if "dp.flows.0.logs" in tensors and _AFFINE_SCALE not in tensors:
        tensors[_AFFINE_SCALE] = torch.exp(-tensors["dp.flows.0.logs"])
    return VoiceWeights(tensors, strides, dilations, path.name)


def _read_graph(path: Path) -> onnx.GraphProto:
    if not path.is_file():
        raise AudioError(
            f"The voice's model file {path} does not exist; run `voxsight models pull` or give "
            f"a folder that holds a Piper voice."
        )
    try:
        model = onnx.load(str(path), load_external_data=False)
    except (DecodeError, OSError) as error:
        raise AudioError(
            f"{path} is not a readable ONNX file ({type(error).__name__}); fetch the voice again."
        ) from error
    if not model.graph.initializer:
        raise AudioError(f"{path} holds no weights; a Piper voice (.onnx) was expected.")
    return model.graph


def _to_tensor(item: onnx.TensorProto) -> torch.Tensor:
    return torch.from_numpy(np.array(numpy_helper.to_array(item), dtype=np.float32))


def _conv_facts(
    graph: onnx.GraphProto, initialisers: set[str]
) -> tuple[dict[str, str], dict[str, int], dict[str, int]]:
    """Training names of the numbered convolutions, and the stride and dilation of each."""
    renamed: dict[str, str] = {}
    strides: dict[str, int] = {}
    dilations: dict[str, int] = {}
    for node in graph.node:
        if node.op_type not in ("Conv", "ConvTranspose") or node.input[1] not in initialisers:
            continue
        weight = node.input[1]
        if len(node.input) > 2 and weight.startswith("onnx::"):
            renamed[weight] = node.input[2].removesuffix("bias") + "weight"
        module = renamed.get(weight, weight).removesuffix(".weight")
        for attribute in node.attribute:
            if attribute.name == "strides":
                strides[module] = int(attribute.ints[0])
            elif attribute.name == "dilations":
                dilations[module] = int(attribute.ints[0])
    return renamed, strides, dilations


def _embedding_name(graph: onnx.GraphProto, initialisers: set[str]) -> str | None:
    """The initialiser that the text encoder's first Gather reads its rows from."""
    for node in graph.node:
        if node.op_type == "Gather" and node.input[0] in initialisers and "emb" in node.name:
            return str(node.input[0])
    return None
