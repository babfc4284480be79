"""Writes a language model's folder with 8-bit weights, once, and loads it in about a second."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from fusion.errors import FusionError
from fusion.llama import Llama, LlamaLayer
from fusion.llama_config import LlamaConfig
from fusion.quantize import Int8Linear, Linear, PlainLinear, fits_int8

#: Called with the tensors done and the tensors in all.
Progress = Callable[[int, int], None]
#: Rises when something else is written than before, so that old folders are made anew.
FORMAT = 1

_WEIGHTS = "quantised.safetensors"
_PARTS = {
    "qkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "output": ("self_attn.o_proj",),
    "gate_up": ("mlp.gate_proj", "mlp.up_proj"),
    "down": ("mlp.down_proj",),
}
_NORMS = {"attention_norm": "input_layernorm", "mlp_norm": "post_attention_layernorm"}
# Everything but weights goes along as it is.
_COPIED = ("*.json", "*.jinja", "*.model", "*.txt")


class _Source(dict[str, Tensor]):
    """The tensors of a transformers folder by name, memory-mapped; a missing one is an error."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        files = sorted(folder.glob("*.safetensors"))
        if not files:
            raise FusionError(
                f"expected weights in {folder}, but it holds no .safetensors file; "
                "give a folder in transformers' format"
            )
        super().__init__(pair for file in files for pair in _mapped(file))

    def __missing__(self, name: str) -> Tensor:
        raise FusionError(
            f"expected the tensor {name} in {self._folder}, but it is missing; "
            "run this model without quantisation"
        )

    def joined(self, names: list[str]) -> Tensor:
        """The named tensors in bfloat16, one under the other."""
        return torch.cat([self[name] for name in names]).bfloat16()


def _mapped(file: Path) -> Iterator[tuple[str, Tensor]]:
    try:
        with safe_open(file, "pt") as opened:
            for name in opened.keys():  # noqa: SIM118 - not a mapping
                yield name, opened.get_tensor(name)
    except (OSError, SafetensorError) as problem:
        raise FusionError(f"expected weights in {file}, but {problem}") from None


def quantise(folder: Path, target: Path, progress: Progress | None = None) -> Path:
    """Write the transformers folder `folder` with 8-bit weights into `target`, and return that.

    Matrices that are read for every token become int8 (one whose shape the operator does not take
    stays bfloat16); the input embeddings, of which a token needs one row, stay as they are.
    FusionError for a model that `llama` does not cover.
    """
    config, source = LlamaConfig.read(folder), _Source(folder)
    tensors: dict[str, Tensor] = {}
    for done, (name, names) in enumerate(_matrices(config, source), 1):
        tensors |= _quantised(name, source, names)
        if progress is not None:
            progress(done, config.layers * len(_PARTS) + 1)
    for number in range(config.layers):
        for name, theirs in _NORMS.items():
            tensors[f"{number}.{name}"] = source.joined([f"model.layers.{number}.{theirs}.weight"])
    tensors["norm"] = source.joined(["model.norm.weight"])
    tensors["embeddings"] = source.joined(["model.embed_tokens.weight"])
    target.mkdir(parents=True, exist_ok=True)
    for pattern in _COPIED:
        for file in folder.glob(pattern):
            shutil.copyfile(file, target / file.name)
    _save(tensors, target / _WEIGHTS)
    return target


def _save(tensors: dict[str, Tensor], file: Path) -> None:
    """Write the file under another name first: half a file is never taken for a whole one."""
    partial = file.with_name(f"{file.name}.partial")
    save_file(tensors, partial, metadata={"format": str(FORMAT)})
    partial.chmod(0o644)  # as open() would have made it
    partial.replace(file)


def _matrices(config: LlamaConfig, source: _Source) -> Iterator[tuple[str, list[str]]]:
    """Each product's name here and the names of the matrices that it joins."""
    for number in range(config.layers):
        for part, names in _PARTS.items():
            yield f"{number}.{part}", [f"model.layers.{number}.{name}" for name in names]
    yield "head", ["lm_head" if "lm_head.weight" in source else "model.embed_tokens"]


def _quantised(name: str, source: _Source, names: list[str]) -> dict[str, Tensor]:
    weights = source.joined([f"{part}.weight" for part in names])
    found = {f"{name}.weights": weights}
    if fits_int8(weights):
        linear = Int8Linear.of(weights)
        found = {f"{name}.codes": linear.codes, f"{name}.scales": linear.scales}
    biases = [f"{part}.bias" for part in names]
    if any(bias in source for bias in biases):
        found[f"{name}.bias"] = source.joined(biases)
    return found


def is_quantised(folder: Path) -> bool:
    """Whether `folder` is one that `quantise` wrote."""
    return (folder / _WEIGHTS).is_file()


def load_quantised(folder: Path) -> Llama:
    """The model in a folder that `quantise` wrote; FusionError if it is damaged or of old format.

    The embeddings stay memory-mapped: only the rows that are asked for are ever read.
    """
    config, file = LlamaConfig.read(folder), folder / _WEIGHTS
    tensors = dict(_mapped(file))
    try:
        _check_format(file)
        layers = tuple(_layer(tensors, number) for number in range(config.layers))
        model = Llama(
            config, tensors["embeddings"], layers, tensors["norm"].clone(), _linear(tensors, "head")
        )
    except KeyError as problem:
        raise FusionError(
            f"expected {problem} in {file}, but it is missing; delete the folder, it is made anew"
        ) from None
    if model.embeddings.shape != (config.vocabulary, config.hidden):
        raise FusionError(
            f"expected embeddings of shape {(config.vocabulary, config.hidden)} in {file}, but "
            f"they have {tuple(model.embeddings.shape)}; delete the folder, it is made anew"
        )
    return model


def _check_format(file: Path) -> None:
    with safe_open(file, "pt") as opened:
        came = (opened.metadata() or {}).get("format")
    if came != str(FORMAT):
        raise FusionError(
            f"expected format {FORMAT} in {file}, but it has {came}; "
            "delete the folder, it is made anew"
        )


def _layer(tensors: dict[str, Tensor], number: int) -> LlamaLayer:
    return LlamaLayer(
        attention_norm=tensors[f"{number}.attention_norm"].clone(),
        qkv=_linear(tensors, f"{number}.qkv"),
        output=_linear(tensors, f"{number}.output"),
        mlp_norm=tensors[f"{number}.mlp_norm"].clone(),
        gate_up=_linear(tensors, f"{number}.gate_up"),
        down=_linear(tensors, f"{number}.down"),
    )


def _linear(tensors: dict[str, Tensor], name: str) -> Linear:
    """A product with its tensors copied from the map, for they are read whole for every token."""
    bias = tensors[f"{name}.bias"].clone() if f"{name}.bias" in tensors else None
    if f"{name}.weights" in tensors:
        return PlainLinear(tensors[f"{name}.weights"].clone(), bias)
    return Int8Linear(tensors[f"{name}.codes"].clone(), tensors[f"{name}.scales"].clone(), bias)
