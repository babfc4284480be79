"""Turns a GGUF language model into a plain transformers folder, once, in a few seconds."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from gguf.constants import GGML_QUANT_SIZES
from safetensors.torch import save_file
from torch import Tensor

from fusion.errors import FusionError
from fusion.gguf_file import GgufFile, GgufTensor
from fusion.gguf_tokenizer import write_tokenizer

#: Called with the weights done and the weights in all.
Progress = Callable[[int, int], None]

#: Rises when a conversion writes something else than before, so that old caches are made anew.
FORMAT = 1

_TOP = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
_LAYER = {
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_END_MARKS = ("<|im_end|>", "<|eot_id|>", "<|endoftext|>", "<|end_of_text|>")
_CLASSES = {"qwen2": "Qwen2ForCausalLM", "llama": "LlamaForCausalLM"}


def is_converted(folder: Path) -> bool:
    """Whether `folder` holds a finished conversion of this format."""
    try:
        note = json.loads((folder / "conversion.json").read_text("utf-8"))
    except (OSError, ValueError):
        return False
    return bool(note.get("format") == FORMAT and (folder / "model.safetensors").is_file())


def convert_gguf(source: Path, target: Path, progress: Progress | None = None) -> Path:
    """Write `source` as config, bf16 safetensors and tokenizer into the folder `target`.

    A finished `target` is returned as it is; otherwise everything is written beside it and renamed
    at the end, so that nobody ever sees half a model. Architectures: qwen2, llama; a FusionError
    names any other, a damaged file, or a tokenizer that is not byte-level BPE.
    """
    if is_converted(target):
        return target
    file = GgufFile(source)
    config = _config(file)
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        write_tokenizer(file, scratch)
        weights = _weights(file, config, progress)
        save_file(weights, scratch / "model.safetensors", metadata={"format": "pt"})
        _write_json(scratch / "config.json", config)
        _write_json(scratch / "generation_config.json", _generation(file, config))
        _write_json(scratch / "conversion.json", {"format": FORMAT, "source": source.name})
        (scratch / "model.safetensors").chmod(0o644)  # as open() would have made it
        scratch.chmod(0o755)
        _put_in_place(scratch, target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return target


def _put_in_place(scratch: Path, target: Path) -> None:
    """Rename `scratch` to `target`; where another process was first, its result stays."""
    if target.exists() and not is_converted(target):
        shutil.rmtree(target)
    try:
        scratch.rename(target)
    except OSError:
        if not is_converted(target):
            raise


def _write_json(path: Path, content: dict[str, object]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", "utf-8")


def _config(file: GgufFile) -> dict[str, object]:
    """The transformers config of a GGUF header; FusionError for what cannot be converted."""
    kind = file.text("general.architecture")
    if kind not in _CLASSES:
        raise FusionError(
            f"expected a GGUF model of the architecture {' or '.join(sorted(_CLASSES))}, but "
            f"{file.path.name} holds {kind or 'none'!r}; use a transformers folder for that model"
        )
    if file.text(f"{kind}.rope.scaling.type") not in ("", "none") or "rope_freqs.weight" in (
        file.tensors
    ):
        raise FusionError(
            f"expected plain rotary positions, but {file.path.name} scales them; use a "
            "transformers folder for that model"
        )
    hidden, heads = (
        int(file.number(f"{kind}.{k}")) for k in ("embedding_length", "attention.head_count")
    )
    config: dict[str, object] = {
        "architectures": [_CLASSES[kind]],
        "model_type": kind,
        "hidden_size": hidden,
        "intermediate_size": int(file.number(f"{kind}.feed_forward_length")),
        "num_hidden_layers": int(file.number(f"{kind}.block_count")),
        "num_attention_heads": heads,
        "num_key_value_heads": int(file.number(f"{kind}.attention.head_count_kv", heads)),
        "head_dim": int(file.number(f"{kind}.attention.key_length", hidden // heads)),
        "max_position_embeddings": int(file.number(f"{kind}.context_length")),
        "rms_norm_eps": file.number(f"{kind}.attention.layer_norm_rms_epsilon"),
        "rope_theta": file.number(f"{kind}.rope.freq_base", 10_000.0),
        "hidden_act": "silu",
        "vocab_size": len(file.items("tokenizer.ggml.tokens")),
        "tie_word_embeddings": _is_tied(file),
        "dtype": "bfloat16",
    }
    for name in ("bos", "eos"):
        if (key := f"tokenizer.ggml.{name}_token_id") in file.fields:
            config[f"{name}_token_id"] = int(file.number(key))
    return config


def _generation(file: GgufFile, config: dict[str, object]) -> dict[str, object]:
    """Begin and end tokens; a chat model ends with its turn mark or with its text mark."""
    kept = {k: v for k, v in config.items() if k in ("bos_token_id", "eos_token_id")}
    tokens = file.items("tokenizer.ggml.tokens")
    ends = [tokens.index(mark) for mark in _END_MARKS if mark in tokens]
    own = kept.get("eos_token_id")
    if own is not None:
        kept["eos_token_id"] = [own, *(end for end in ends if end != own)]
    return kept


def _is_tied(file: GgufFile) -> bool:
    """Whether input and output embeddings are one matrix.

    Converters store a tied matrix twice when the two copies get different precisions (here 5 and
    8 bits); two copies that agree to the coarser one's rounding are one matrix.
    """
    head, rows = file.tensors.get("output.weight"), file.tensors.get("token_embd.weight")
    if head is None or rows is None:
        return True
    if head.shape != rows.shape:
        return False
    width = head.shape[-1]
    first, second = (_rows(file, tensor, min(256, tensor.shape[0])) for tensor in (head, rows))
    cosine = torch.cosine_similarity(first.view(-1, width), second.view(-1, width), dim=-1)
    return bool(cosine.median() > 0.99)


def _rows(file: GgufFile, tensor: GgufTensor, count: int) -> Tensor:
    block, _ = GGML_QUANT_SIZES[tensor.kind]
    return file.dequantised(tensor, 0, count * tensor.shape[-1] // block)


def _target_name(name: str) -> str | None:
    if name in _TOP:
        return _TOP[name]
    match = re.fullmatch(r"blk\.(\d+)\.(\w+)\.(weight|bias)", name)
    if match is None or match[2] not in _LAYER:
        return None
    return f"model.layers.{match[1]}.{_LAYER[match[2]]}.{match[3]}"


def _weights(
    file: GgufFile, config: dict[str, object], progress: Progress | None
) -> dict[str, Tensor]:
    """Every weight in bf16 under transformers' name; of a tied matrix the finer copy."""
    chosen = dict(file.tensors)
    if config["tie_word_embeddings"] and "output.weight" in chosen:
        head, rows = chosen.pop("output.weight"), chosen["token_embd.weight"]
        chosen["token_embd.weight"] = max((head, rows), key=lambda tensor: tensor.bytes)
    named: dict[str, GgufTensor] = {}
    for name, tensor in chosen.items():
        if (new_name := _target_name(name)) is None:
            raise FusionError(
                f"expected the tensors of a {config['model_type']} model, but {file.path.name} "
                f"also holds {name}; use a transformers folder for that model"
            )
        named[new_name] = tensor
    total = sum(tensor.bytes for tensor in named.values())
    weights: dict[str, Tensor] = {}
    done = 0
    # numpy and torch let go of the interpreter inside a piece, so two threads use two cores.
    with ThreadPoolExecutor(2) as pool:
        for name, values in zip(
            named, pool.map(lambda t: _whole(file, t), named.values()), strict=True
        ):
            weights[name] = values
            done += named[name].bytes
            if progress is not None:
                progress(done, total)
    if config["model_type"] == "llama":
        _unpermute_llama(weights, config)
    return weights


def _whole(file: GgufFile, tensor: GgufTensor) -> Tensor:
    """One tensor in bf16 with its own shape."""
    block, _ = GGML_QUANT_SIZES[tensor.kind]
    values = torch.empty(tensor.shape, dtype=torch.bfloat16)
    flat = values.view(-1)
    for start, stop in file.pieces(tensor):
        flat[start * block : stop * block] = file.dequantised(tensor, start, stop)
    return values


def _unpermute_llama(weights: dict[str, Tensor], config: dict[str, object]) -> None:
    """Undo ggml's interleaving of the rotary halves in llama's query and key rows."""
    for part, heads_key in (("q_proj", "num_attention_heads"), ("k_proj", "num_key_value_heads")):
        heads = config[heads_key]
        assert isinstance(heads, int)
        for name in [name for name in weights if f"self_attn.{part}." in name]:
            rows = weights[name]
            halves = rows.reshape(heads, rows.shape[0] // heads // 2, 2, *rows.shape[1:])
            weights[name] = halves.swapaxes(1, 2).reshape(rows.shape).contiguous()
