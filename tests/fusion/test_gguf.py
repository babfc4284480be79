import json
from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, Qwen2ForCausalLM
from transformers.models.qwen2.tokenization_qwen2 import Qwen2Tokenizer

from fusion.decoder import Decoder
from fusion.errors import FusionError
from fusion.gguf_convert import convert_gguf, is_converted
from fusion.gguf_file import GgufFile
from tests.fusion.tiny import SPECIAL, TEMPLATE, byte_vocabulary, tiny_config

LAYER = {
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
TOP = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}


def gguf_name(name: str) -> str:
    stem, kind = name.rsplit(".", 1)
    if stem in TOP:
        return f"{TOP[stem]}.{kind}"
    _, _, number, part = stem.split(".", 3)
    return f"blk.{number}.{LAYER[part]}.{kind}"


def tiny_model(arch: str, tied: bool = False) -> torch.nn.Module:
    torch.manual_seed(1)
    if arch == "qwen2":
        model: torch.nn.Module = Qwen2ForCausalLM(tiny_config(tie_word_embeddings=tied))
    else:
        settings = tiny_config(tie_word_embeddings=tied).to_dict()
        keys = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
                "num_key_value_heads", "vocab_size", "max_position_embeddings", "eos_token_id",
                "bos_token_id", "tie_word_embeddings", "rms_norm_eps")  # fmt: skip
        model = LlamaForCausalLM(LlamaConfig(**{key: settings[key] for key in keys}))
    for parameter in model.parameters():  # not .bfloat16(): the rotary table stays in float32
        parameter.data = torch.nn.init.normal_(parameter.data, std=0.2).bfloat16()
    return model


def permuted(weights: np.ndarray, heads: int) -> np.ndarray:
    """Llama's rows as llama.cpp's converter writes them (convert_hf_to_gguf, `permute`)."""
    return (
        weights.reshape(heads, 2, weights.shape[0] // heads // 2, *weights.shape[1:])
        .swapaxes(1, 2)
        .reshape(weights.shape)
    )


def write_gguf(
    path: Path,
    model: torch.nn.Module,
    arch: str = "qwen2",
    kind: gguf.GGMLQuantizationType = gguf.GGMLQuantizationType.F32,
    **changes: object,
) -> None:
    """The model as a GGUF file, by the gguf package's own writer."""
    writer = gguf.GGUFWriter(path, arch)
    config = model.config
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    vocabulary = byte_vocabulary()
    writer.add_tokenizer_model(str(changes.get("tokenizer", "gpt2")))
    writer.add_tokenizer_pre("qwen2" if arch == "qwen2" else "llama-bpe")
    writer.add_token_list(list(vocabulary))
    writer.add_token_types([3 if token in SPECIAL else 1 for token in vocabulary])
    writer.add_token_merges(changes.get("merges", ["a b"]))
    writer.add_eos_token_id(vocabulary["<|im_end|>"])
    writer.add_chat_template(TEMPLATE)
    if "scaling" in changes:
        writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
    if "extra" in changes:
        writer.add_tensor("blk.0.attn_gate.weight", np.zeros((4, 4), np.float32))
    for name, tensor in model.state_dict().items():
        values = tensor.float().numpy()
        if arch == "llama" and "q_proj" in name:
            values = permuted(values, config.num_attention_heads)
        if arch == "llama" and "k_proj" in name:
            values = permuted(values, config.num_key_value_heads)
        if values.ndim == 2 and kind != gguf.GGMLQuantizationType.F32:
            coded = gguf.quants.quantize(values, kind)
            writer.add_tensor(gguf_name(name), coded, raw_dtype=kind)
        else:
            writer.add_tensor(gguf_name(name), values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.mark.parametrize("arch", ["qwen2", "llama"])
def test_converted_model_gives_the_same_logits(arch: str, tmp_path: Path) -> None:
    model = tiny_model(arch)
    write_gguf(tmp_path / "m.gguf", model, arch)
    steps: list[tuple[int, int]] = []
    folder = convert_gguf(tmp_path / "m.gguf", tmp_path / "out", lambda *at: steps.append(at))
    decoder = Decoder.load(folder)
    ids = torch.tensor([[1, 5, 9, 30, 7, 2]])
    with torch.inference_mode():
        assert torch.equal(decoder.model(ids).logits, model(ids).logits)
    assert steps == sorted(steps)
    assert steps[-1][0] == steps[-1][1]
    assert decoder.end_ids == {byte_vocabulary()[t] for t in ("<|im_end|>", "<|endoftext|>")}
    assert decoder.tokenizer.chat_template == TEMPLATE


@pytest.mark.parametrize("kind", ["Q8_0", "Q5_0", "Q4_0", "Q5_1", "BF16", "F16"])
def test_dequantised_weights_equal_the_gguf_packages(kind: str, tmp_path: Path) -> None:
    code = gguf.GGMLQuantizationType[kind]
    write_gguf(tmp_path / "m.gguf", tiny_model("qwen2"), kind=code)
    ours = GgufFile(tmp_path / "m.gguf")
    theirs = gguf.GGUFReader(tmp_path / "m.gguf")
    assert [t.name for t in theirs.tensors] == list(ours.tensors)
    for tensor in theirs.tensors:
        mine = ours.tensors[tensor.name]
        expected = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        found = torch.cat([ours.dequantised(mine, *piece) for piece in ours.pieces(mine)])
        assert np.array_equal(found.view(mine.shape).numpy(), expected.reshape(mine.shape))


def test_a_matrix_that_is_stored_twice_is_tied_and_the_finer_copy_kept(tmp_path: Path) -> None:
    model = tiny_model("qwen2", tied=True)
    write_gguf(tmp_path / "m.gguf", model)  # state_dict names it twice
    folder = convert_gguf(tmp_path / "m.gguf", tmp_path / "out")
    weights = load_file(folder / "model.safetensors")
    assert "lm_head.weight" not in weights
    assert json.loads((folder / "config.json").read_text())["tie_word_embeddings"] is True
    assert torch.equal(weights["model.embed_tokens.weight"], model.state_dict()["lm_head.weight"])


def test_a_finished_conversion_is_kept_and_half_a_one_is_replaced(tmp_path: Path) -> None:
    write_gguf(tmp_path / "m.gguf", tiny_model("qwen2"))
    half = tmp_path / "out"
    half.mkdir()
    (half / "config.json").write_text("{}")
    assert not is_converted(half)
    folder = convert_gguf(tmp_path / "m.gguf", half)
    assert is_converted(folder)
    before = (folder / "model.safetensors").stat().st_mtime_ns
    convert_gguf(tmp_path / "m.gguf", half)
    assert (folder / "model.safetensors").stat().st_mtime_ns == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.gguf", "out"]


def test_a_failed_conversion_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_gguf(tmp_path / "m.gguf", tiny_model("qwen2"))

    def full(*_: object, **__: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("fusion.gguf_convert.save_file", full)
    with pytest.raises(OSError, match="disk full"):
        convert_gguf(tmp_path / "m.gguf", tmp_path / "out")
    assert [p.name for p in tmp_path.iterdir()] == ["m.gguf"]


def test_what_cannot_be_converted_is_refused(tmp_path: Path) -> None:
    model = tiny_model("qwen2")
    cases = (
        ("gpt2", {}, "qwen2.*but a.gguf holds 'gpt2'"),
        ("qwen2", {"tokenizer": "llama"}, "byte-level BPE"),
        ("qwen2", {"scaling": True}, "rotary"),
        ("qwen2", {"extra": True}, r"also holds blk\.0\.attn_gate"),
        ("qwen2", {"merges": ["a b c"]}, "merges of two"),
    )
    for arch, changes, message in cases:
        write_gguf(tmp_path / "a.gguf", model, arch, **changes)
        with pytest.raises(FusionError, match=message):
            convert_gguf(tmp_path / "a.gguf", tmp_path / "out")


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    write_gguf(tmp_path / "m.gguf", tiny_model("qwen2"))
    whole = (tmp_path / "m.gguf").read_bytes()
    damaged = tmp_path / "d.gguf"
    for data in (b"", b"GG", b"PK\x03\x04" + whole[4:], whole[:4] + b"\x09" + whole[5:]):
        damaged.write_bytes(data)
        with pytest.raises(FusionError, match=r"d\.gguf"):
            GgufFile(damaged)
    for length in [*range(8, len(whole) // 2, 997), len(whole) - 64]:
        damaged.write_bytes(whole[:length])
        with pytest.raises(FusionError, match="fetch the file again"):
            GgufFile(damaged)
    with pytest.raises(FusionError, match="expected a GGUF model"):
        GgufFile(tmp_path / "none.gguf")


@pytest.fixture(scope="module")
def real(
    model_folder: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[GgufFile, Path]:
    source = next(model_folder("qwen2.5-coder-0.5b-instruct").glob("*.gguf"))
    target = tmp_path_factory.getbasetemp() / "qwen"
    return GgufFile(source), convert_gguf(source, target)


@pytest.mark.models
def test_real_tensors_equal_the_gguf_packages(real: tuple[GgufFile, Path]) -> None:
    file, folder = real
    weights = load_file(folder / "model.safetensors")
    assert len(weights) == len(file.tensors) - 1  # the output matrix is the input's
    for ours, theirs in (
        ("model.embed_tokens.weight", "output.weight"),
        ("model.layers.0.mlp.down_proj.weight", "blk.0.ffn_down.weight"),
        ("model.layers.7.self_attn.q_proj.weight", "blk.7.attn_q.weight"),
        ("model.layers.7.self_attn.q_proj.bias", "blk.7.attn_q.bias"),
        ("model.layers.23.self_attn.v_proj.weight", "blk.23.attn_v.weight"),
        ("model.norm.weight", "output_norm.weight"),
    ):
        tensor = file.tensors[theirs]
        count = min(64, tensor.shape[0]) if len(tensor.shape) == 2 else 1
        size = tensor.bytes // tensor.shape[0] * count if count > 1 else tensor.bytes
        with file.path.open("rb") as handle:
            handle.seek(tensor.offset)
            raw = np.frombuffer(handle.read(size), np.uint8).reshape(count, -1)
        expected = torch.from_numpy(np.array(gguf.quants.dequantize(raw, tensor.kind)))
        found = weights[ours].reshape(tensor.shape)[: count if count > 1 else None]
        assert torch.equal(found.reshape(-1), expected.reshape(-1).bfloat16()), ours


@pytest.mark.models
def test_real_tokenizer_equals_transformers_qwen2(real: tuple[GgufFile, Path]) -> None:
    """transformers' own class builds its pieces from the vocabulary and merges by itself."""
    file, folder = real
    tokens = [str(t) for t in file.items("tokenizer.ggml.tokens")]
    merges = [tuple(str(m).split(" ")) for m in file.items("tokenizer.ggml.merges")]
    reference = Qwen2Tokenizer(vocab={t: i for i, t in enumerate(tokens)}, merges=merges)
    ours = PreTrainedTokenizerFast.from_pretrained(folder)
    pieces = ["a", "Hello", " world", "'s", "'LL", "12", "3", "\n", "\r\n", "  ", "\t", "é",
              "日本", "😀", "!?", "…", " ", "ß", "👩‍👩‍👧", "<", "|>", "'", " I'm"]  # fmt: skip
    random = np.random.default_rng(0)
    for _ in range(1500):
        text = "".join(random.choice(pieces, random.integers(0, 15)))
        ids = ours(text, add_special_tokens=False).input_ids
        assert ids == reference(text, add_special_tokens=False).input_ids, text
        assert ours.decode(ids, clean_up_tokenization_spaces=False) == text
    chat = "<|im_start|>user\nhi<|im_end|>"
    assert ours(chat).input_ids == [151644, 872, 198, 6023, 151645]
