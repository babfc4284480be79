import copy
import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, Qwen2ForCausalLM

from fusion.decoder import DecodeOptions, Decoder, EmbeddedPrompt
from fusion.errors import FusionError
from fusion.gguf_convert import convert_gguf
from fusion.llama import Llama
from fusion.prompt import PromptBuilder, Turn
from fusion.quantize import FEW_ROWS, Int8Linear, Linear, PlainLinear
from fusion.quantize_file import is_quantised, load_quantised, quantise
from tests.fusion.tiny import byte_tokenizer, byte_vocabulary, tiny_config

VOCABULARY = len(byte_vocabulary())


def drawn(*shape: int, seed: int = 0, scale: float = 1.0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * scale


@given(
    count=st.sampled_from([1, 2, FEW_ROWS, FEW_ROWS + 1, 50]),
    out=st.integers(1, 70),
    width=st.integers(1, 6),
    seed=st.integers(0, 99),
)
def test_int8_product_equals_that_of_the_dequantised_weights(
    count: int, out: int, width: int, seed: int
) -> None:
    weights, bias = drawn(out, 32 * width, seed=seed), drawn(out, seed=seed + 1).bfloat16()
    rows = drawn(count, 32 * width, seed=seed + 2).bfloat16()
    linear = Int8Linear.of(weights, bias)
    kept = linear.codes.double() * linear.scales.double()[:, None]
    expected = rows.double() @ kept.T + bias.double()
    # a few roundings to eight bits of mantissa
    margin = 2**-7 * (rows.double().norm(dim=1)[:, None] * kept.norm(dim=1) + bias.double().abs())
    assert ((linear(rows).double() - expected).abs() <= margin).all()


@given(seed=st.integers(0, 99), spread=st.sampled_from([1e-6, 1.0, 1e6]))
def test_int8_error_is_at_most_half_a_step(seed: int, spread: float) -> None:
    weights = drawn(5, 64, seed=seed, scale=spread)
    linear = Int8Linear.of(weights)
    error = (linear.codes.float() * linear.scales.float()[:, None] - weights).abs()
    # the scale itself is rounded, which may clip the largest weight by up to 127 * 2**-9 of a step
    assert (error <= 0.75 * linear.scales.float()[:, None]).all()


def test_a_row_of_zeros_stays_zero() -> None:
    weights = drawn(2, 32)
    weights[1] = 0
    product = Int8Linear.of(weights)(drawn(3, 32).bfloat16())
    assert (product[:, 1] == 0).all()
    assert (product[:, 0] != 0).all()


def test_wide_products_are_tiled_without_a_seam(monkeypatch: pytest.MonkeyPatch) -> None:
    linear, rows = Int8Linear.of(drawn(100, 64)), drawn(40, 64).bfloat16()
    whole = linear(rows)
    monkeypatch.setattr("fusion.quantize._TILE_WEIGHTS", 64 * 7)
    assert torch.equal(linear(rows), whole)


def tiny_model(kind: str, **changes: object) -> torch.nn.Module:
    """A random model of transformers whose weights are exact in bfloat16."""
    torch.manual_seed(3)
    told = tiny_config(**changes).to_dict()
    if kind == "qwen2":
        model: torch.nn.Module = Qwen2ForCausalLM(tiny_config(**changes))
    else:
        keys = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
                "num_key_value_heads", "vocab_size", "max_position_embeddings", "eos_token_id",
                "bos_token_id", "tie_word_embeddings", "rms_norm_eps")  # fmt: skip
        model = LlamaForCausalLM(LlamaConfig(**{key: told[key] for key in keys}))
    for parameter in model.parameters():
        values = torch.nn.init.normal_(parameter.data, std=0.3)
        parameter.data = values.bfloat16().float()
    return model.eval().requires_grad_(False)


def saved(model: torch.nn.Module, folder: Path) -> Path:
    model.save_pretrained(folder)  # type: ignore[operator]
    byte_tokenizer().save_pretrained(folder)
    return folder


#: No matrix of this shape fits the 8-bit operator, so that the forward pass is seen by itself.
ODD = {"hidden_size": 48, "intermediate_size": 40, "num_attention_heads": 4}


def in_float32(model: Llama) -> Llama:
    def wide(linear: Linear) -> Linear:
        assert isinstance(linear, PlainLinear)
        bias = None if linear.bias is None else linear.bias.float()
        return PlainLinear(linear.weights.float(), bias)

    layers = tuple(
        replace(
            layer,
            attention_norm=layer.attention_norm.float(),
            mlp_norm=layer.mlp_norm.float(),
            **{name: wide(getattr(layer, name)) for name in ("qkv", "output", "gate_up", "down")},
        )
        for layer in model.layers
    )
    embeddings, norm = model.embeddings.float(), model.norm.float()
    return replace(model, embeddings=embeddings, norm=norm, layers=layers, head=wide(model.head))


@pytest.mark.parametrize("kind", ["qwen2", "llama"])
@pytest.mark.parametrize("tied", [False, True])
def test_forward_pass_equals_transformers(kind: str, tied: bool, tmp_path: Path) -> None:
    theirs = tiny_model(kind, tie_word_embeddings=tied, **ODD)
    quantise(saved(theirs, tmp_path / "m"), tmp_path / "q")
    ours = in_float32(load_quantised(tmp_path / "q"))
    ids = torch.randint(0, VOCABULARY, (60,), generator=torch.Generator().manual_seed(1))
    memory, found = ours.new_memory(), []
    for part in ids.split([1, 1, 20, 3, 35]):
        found.append(ours.logits(ours.embed(part), memory, keep=len(part)))
    expected = theirs(input_ids=ids[None]).logits[0]
    torch.testing.assert_close(torch.cat(found), expected, atol=2e-4, rtol=2e-4)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A tiny model's folder, and the same quantised."""
    root = tmp_path_factory.mktemp("tiny")
    steps: list[tuple[int, int]] = []
    plain = saved(tiny_model("qwen2"), root / "tiny")
    target = quantise(plain, root / "quantised", lambda *at: steps.append(at))
    assert steps == [(n, 9) for n in range(1, 10)]
    return plain, target


def test_quantised_logits_are_those_of_the_dequantised_model(folders: tuple[Path, Path]) -> None:
    plain, quantised = folders
    theirs = AutoModelForCausalLM.from_pretrained(plain)
    with torch.no_grad():
        for name, weights in theirs.named_parameters():
            if weights.ndim == 2 and "embed" not in name:
                linear = Int8Linear.of(weights)
                weights.copy_(linear.codes.float() * linear.scales.float()[:, None])
    ours = load_quantised(quantised)
    ids = torch.randint(0, VOCABULARY, (40,), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected = theirs(input_ids=ids[None]).logits[0]
        for chunk in (1, 40):  # both ways of computing a product
            memory = ours.new_memory()
            rows = [ours.logits(ours.embed(p), memory, keep=len(p)) for p in ids.split(chunk)]
            cosine = torch.cosine_similarity(torch.cat(rows).float(), expected, dim=-1)
            assert cosine.min() > 0.999


def test_input_embeddings_are_bit_for_bit_the_models_own(folders: tuple[Path, Path]) -> None:
    plain, quantised = (Decoder.load(folder) for folder in folders)
    ids = list(range(VOCABULARY))
    assert torch.equal(plain.embed(ids), quantised.embed(ids))
    assert (quantised.hidden_size, quantised.device.type) == (plain.hidden_size, "cpu")
    assert quantised.end_ids == plain.end_ids


def prompt_of(decoder: Decoder, text: str) -> EmbeddedPrompt:
    ids = torch.tensor(decoder.token_ids(text))
    return EmbeddedPrompt(ids, decoder.embed(ids))


def test_a_stream_over_a_kept_cache_equals_one_from_scratch(folders: tuple[Path, Path]) -> None:
    decoder, options = Decoder.load(folders[1]), DecodeOptions(max_tokens=12)
    cache = decoder.new_cache()
    decoder.prefill(prompt_of(decoder, "be brief. "), cache)
    fork = cache.fork()
    question = prompt_of(decoder, "be brief. what is it?")
    fresh = "".join(decoder.stream(question, options))
    assert "".join(decoder.stream(question, options, fork)) == fresh
    assert len(cache) == cache.layers.get_seq_length() == len("be brief. ")  # type: ignore[attr-defined]
    assert "".join(decoder.stream(question, options, cache)) == fresh


def test_a_cropped_memory_forgets_and_a_long_one_grows(folders: tuple[Path, Path]) -> None:
    model = load_quantised(folders[1])
    rows = model.embed(torch.arange(300) % VOCABULARY)
    memory = model.new_memory()
    whole = model.logits(rows, memory, keep=300)
    kept = copy.deepcopy(memory)
    memory.crop(-290)
    assert memory.get_seq_length() == 10
    torch.testing.assert_close(model.logits(rows[10:], memory), whole[-1:], atol=0.05, rtol=0.02)
    assert kept.get_seq_length() == 300
    for _ in range(3):  # past the first capacity, one at a time
        kept_logits = model.logits(rows[:1], kept)
        fresh = model.new_memory()
        all_rows = torch.cat((rows, rows[:1].expand(kept.get_seq_length() - 300, -1)))
        torch.testing.assert_close(kept_logits, model.logits(all_rows, fresh), atol=0.05, rtol=0.05)


def test_prompts_are_built_as_with_transformers(folders: tuple[Path, Path]) -> None:
    turns = [Turn("system", ("Be brief.",)), Turn("user", ("Look: ", torch.ones(3, 32), " What?"))]
    plain, quantised = (PromptBuilder(Decoder.load(folder)).build(turns) for folder in folders)
    assert torch.equal(plain.input_ids, quantised.input_ids)
    assert torch.equal(plain.embeddings, quantised.embeddings)


def changed(folder: Path, target: Path, **changes: object) -> Path:
    target.mkdir()
    for file in folder.iterdir():
        (target / file.name).write_bytes(file.read_bytes())
    told = json.loads((folder / "config.json").read_text()) | changes
    (target / "config.json").write_text(json.dumps(told))
    return target


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "gemma"}, "its model_type is 'gemma'"),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}, "its rope_type is 'yarn'"),
        ({"use_sliding_window": True}, "its use_sliding_window is True"),
        ({"num_hidden_layers": 3}, r"tensor model\.layers\.2.* is missing"),
    ],
)
def test_models_that_are_not_covered_are_refused(
    changes: dict[str, object], message: str, folders: tuple[Path, Path], tmp_path: Path
) -> None:
    with pytest.raises(FusionError, match=message):
        quantise(changed(folders[0], tmp_path / "m", **changes), tmp_path / "q")
    assert not is_quantised(tmp_path / "q")


def test_folders_without_weights_or_config_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FusionError, match=r"expected a model's config\.json"):
        quantise(tmp_path, tmp_path / "q")
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(FusionError, match="JSON object"):
        quantise(tmp_path, tmp_path / "q")
    tiny_config().save_pretrained(tmp_path)
    with pytest.raises(FusionError, match=r"no \.safetensors file"):
        quantise(tmp_path, tmp_path / "q")


def test_damaged_quantised_folders_are_refused(folders: tuple[Path, Path], tmp_path: Path) -> None:
    bad = changed(folders[1], tmp_path / "bad")
    file = bad / "quantised.safetensors"
    whole = file.read_bytes()
    tensors = load_file(file)
    save_file(tensors, file, metadata={"format": "0"})
    with pytest.raises(FusionError, match="expected format 1 .* has 0"):
        Decoder.load(bad)
    lacking = {name: t for name, t in tensors.items() if name != "1.down.scales"}
    save_file(lacking, file, metadata={"format": "1"})
    with pytest.raises(FusionError, match=r"'1\.down\.scales' in .* made anew"):
        Decoder.load(bad)
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(FusionError, match=r"expected weights in .*quantised\.safetensors"):
        Decoder.load(bad)
    file.write_bytes(whole)
    other = changed(bad, tmp_path / "other", vocab_size=9)
    with pytest.raises(FusionError, match=r"embeddings of shape \(9, 32\)"):
        Decoder.load(other)
    (bad / "tokenizer.json").unlink()
    with pytest.raises(FusionError, match="expected a tokenizer"):
        Decoder.load(bad)


def test_a_quantised_model_runs_on_the_cpu_only(folders: tuple[Path, Path]) -> None:
    with pytest.raises(FusionError, match="expected the device cpu"):
        Decoder.load(folders[1], device="meta")


@pytest.fixture(scope="module")
def real(
    model_folder: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Decoder, Decoder]:
    """The real model in bfloat16 by transformers, and quantised."""
    source = next(model_folder("qwen2.5-coder-0.5b-instruct").glob("*.gguf"))
    plain = convert_gguf(source, tmp_path_factory.getbasetemp() / "qwen")
    quantised = quantise(plain, tmp_path_factory.mktemp("real") / "quantised")
    return Decoder.load(plain), Decoder.load(quantised)


@pytest.mark.models
def test_real_model_says_the_same_quantised(real: tuple[Decoder, Decoder]) -> None:
    plain, quantised = real
    turns = [Turn("system", ("Be brief.",)), Turn("user", ("Name three fruits.",))]
    prompts = [PromptBuilder(decoder).build(turns) for decoder in real]
    assert torch.equal(prompts[0].embeddings, prompts[1].embeddings)
    logits = [decoder.prefill(prompts[0], decoder.new_cache()).log_softmax(-1) for decoder in real]
    assert torch.nn.functional.kl_div(logits[1], logits[0], reduction="sum", log_target=True) < 0.02
    options = DecodeOptions(max_tokens=16)
    said = ["".join(decoder.stream(prompts[0], options)) for decoder in (plain, quantised)]
    assert said[0] == said[1]


@pytest.mark.models
def test_real_tokenizer_equals_transformers(real: tuple[Decoder, Decoder]) -> None:
    theirs, ours = (decoder.tokenizer for decoder in real)
    texts = [
        "Hello world",
        " I'm 12\r\n\r\n",
        "日本 😀 ß",
        "<|im_start|>user\nhi<|im_end|>",
        "  x  ",
    ]
    for text in texts:
        ids = ours(text)["input_ids"]
        assert ids == theirs(text)["input_ids"]
        for skip in (False, True):
            expected = theirs.decode(
                ids, skip_special_tokens=skip, clean_up_tokenization_spaces=False
            )
            assert ours.decode(ids, skip_special_tokens=skip) == expected
    assert ours.get_vocab() == theirs.get_vocab()
    assert ours.get_added_vocab() == theirs.get_added_vocab()
    assert (ours.eos_token_id, ours.chat_template) == (theirs.eos_token_id, theirs.chat_template)
    turns = [{"role": role, "content": f"{role} <&> é"} for role in ("system", "user", "assistant")]
    for chat in (turns, turns[1:], turns[1:2]):
        for opened in (True, False):
            expected = theirs.apply_chat_template(
                chat, tokenize=False, add_generation_prompt=opened
            )
            assert ours.apply_chat_template(chat, add_generation_prompt=opened) == expected
    assert math.isclose(len(ours.get_vocab()), 151_665, rel_tol=0.01)
