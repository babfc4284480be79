from collections.abc import Callable
from itertools import islice
from pathlib import Path

import pytest
import torch

from fusion.decoder import DecodeOptions, Decoder, EmbeddedPrompt, Finish
from fusion.errors import FusionError
from fusion.gguf_convert import convert_gguf
from fusion.prompt import PromptBuilder, Turn
from tests.fusion.tiny import tiny_decoder

DECODER = tiny_decoder()


def prompt_of(text: str, decoder: Decoder = DECODER) -> EmbeddedPrompt:
    ids = torch.tensor(decoder.token_ids(text))
    return EmbeddedPrompt(ids, decoder.embed(ids))


def generated(decoder: Decoder, prompt: EmbeddedPrompt, count: int) -> str:
    """What transformers' own generate() answers, greedily."""
    ids = prompt.input_ids[None]
    with torch.inference_mode():
        out = decoder.model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=count, do_sample=False
        )
    text: str = decoder.tokenizer.decode(out[0, len(prompt) :], skip_special_tokens=True)
    return text


@pytest.mark.parametrize("text", ["Hello there", "x", "Where is it? Ünïcode 日本"])
def test_greedy_equals_generate(text: str) -> None:
    prompt = prompt_of(text)
    stream = DECODER.stream(prompt, DecodeOptions(max_tokens=40))
    assert "".join(stream) == generated(DECODER, prompt, 40)


def test_logits_equal_the_models_own_forward_pass() -> None:
    prompt = prompt_of("a picture of something")
    with torch.inference_mode():
        whole = DECODER.model(input_ids=prompt.input_ids[None]).logits[0, -1]
    torch.testing.assert_close(DECODER.prefill(prompt, DECODER.new_cache()), whole)


@pytest.mark.parametrize("chunk", [1, 3, 7, 1000])
def test_chunked_prefill_equals_whole(chunk: int) -> None:
    prompt = prompt_of("one two three four")
    whole, parts = DECODER.new_cache(), DECODER.new_cache()
    expected = DECODER.prefill(prompt, whole)
    torch.testing.assert_close(
        DECODER.prefill(prompt, parts, chunk=chunk), expected, atol=1e-4, rtol=1e-4
    )
    assert len(parts) == len(whole) == len(prompt)


def counting(decoder: Decoder, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Lengths of the inputs that are run through the model from now on."""
    lengths: list[int] = []
    forward = decoder.model.forward

    def counted(*args: object, **kwargs: torch.Tensor) -> object:
        lengths.append(kwargs["inputs_embeds"].shape[1])
        return forward(*args, **kwargs)

    monkeypatch.setattr(decoder.model, "forward", counted)
    return lengths


def test_a_cached_prefix_is_not_run_again_and_changes_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    options = DecodeOptions(max_tokens=12)
    system, question = prompt_of("be brief. "), prompt_of("be brief. what is it?")
    expected = "".join(DECODER.stream(question, options))
    cache = DECODER.new_cache()
    DECODER.prefill(system, cache)
    lengths = counting(DECODER, monkeypatch)
    assert "".join(DECODER.stream(question, options, cache)) == expected
    assert lengths[0] == len(question) - len(system)


def test_the_next_turn_reuses_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    options = DecodeOptions(max_tokens=6)
    cache = DECODER.new_cache()
    first = prompt_of("first question ")
    answer = [int(i) for i in _answer_ids(first, 6)]
    list(DECODER.stream(first, options, cache))
    longer = torch.cat((first.input_ids, torch.tensor(answer), prompt_of(" second").input_ids))
    prompt = EmbeddedPrompt(longer, DECODER.embed(longer))
    expected = "".join(DECODER.stream(prompt, options))
    lengths = counting(DECODER, monkeypatch)
    assert "".join(DECODER.stream(prompt, options, cache)) == expected
    # all but the last token of the answer was run already
    assert lengths[0] == len(" second") + 1


def _answer_ids(prompt: EmbeddedPrompt, count: int) -> torch.Tensor:
    ids = prompt.input_ids[None]
    with torch.inference_mode():
        return DECODER.model.generate(  # type: ignore[no-any-return]
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=count, do_sample=False
        )[0, len(prompt) :]


def test_another_picture_under_the_same_placeholders_is_seen() -> None:
    ids = torch.tensor(DECODER.token_ids("look <|image_pad|><|image_pad|> what?"))
    pictures = []
    for seed in (1, 2):
        rows = DECODER.embed(ids).clone()
        rows[5:7] = torch.randn(2, rows.shape[1], generator=torch.Generator().manual_seed(seed))
        pictures.append(EmbeddedPrompt(ids, rows))
    cache = DECODER.new_cache()
    DECODER.prefill(pictures[0], cache)
    fresh = DECODER.prefill(pictures[1], DECODER.new_cache())
    torch.testing.assert_close(DECODER.prefill(pictures[1], cache), fresh, atol=1e-4, rtol=1e-4)


def test_forks_do_not_touch_each_other() -> None:
    cache = DECODER.new_cache()
    DECODER.prefill(prompt_of("shared start "), cache)
    fork = cache.fork()
    DECODER.prefill(prompt_of("shared start and then"), fork)
    assert len(cache) == len("shared start ") == cache.layers.get_seq_length()
    assert len(fork) == len("shared start and then") == fork.layers.get_seq_length()


def test_listening_no_longer_leaves_a_usable_cache() -> None:
    prompt, cache = prompt_of("tell me a story"), DECODER.new_cache()
    list(islice(DECODER.stream(prompt, DecodeOptions(max_tokens=30), cache), 3))
    assert len(cache) == cache.layers.get_seq_length()
    options = DecodeOptions(max_tokens=10)
    again = "".join(DECODER.stream(prompt, options, cache))
    assert again == "".join(DECODER.stream(prompt, options))


def test_finish_tells_why() -> None:
    prompt = prompt_of("go on")
    stream = DECODER.stream(prompt, DecodeOptions(max_tokens=5))
    assert stream.finish is None
    whole = "".join(stream)
    assert (stream.finish, stream.tokens) == (Finish.LENGTH, 5)
    stop = whole[2:4]
    stopped = DECODER.stream(prompt, DecodeOptions(max_tokens=5, stop=(stop,)))
    assert "".join(stopped) == whole[: whole.index(stop)]
    assert stopped.finish is Finish.STOP_STRING


def test_the_models_end_sign_ends_the_answer() -> None:
    prompt = prompt_of("go on")
    first = int(DECODER.prefill(prompt, DECODER.new_cache()).argmax())
    ending = Decoder(DECODER.model, DECODER.tokenizer, "ending", frozenset({first}))
    stream = ending.stream(prompt, DecodeOptions(max_tokens=5))
    assert list(stream) == []
    assert (stream.finish, stream.tokens) == (Finish.END, 0)


def test_seed_decides_the_draws() -> None:
    prompt = prompt_of("draw")

    def draw(seed: int) -> str:
        options = DecodeOptions(max_tokens=20, temperature=5.0, top_k=50, top_p=0.95, seed=seed)
        return "".join(DECODER.stream(prompt, options))

    assert draw(1) == draw(1) != draw(2)


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_tokens": 0},
        {"temperature": -1.0},
        {"temperature": float("nan")},
        {"top_k": -1},
        {"top_p": 0.0},
        {"stop": ("",)},
    ],
)
def test_options_without_meaning_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(FusionError, match=r"stop strings|max_tokens|temperature|top_k|top_p"):
        DecodeOptions(**wrong)  # type: ignore[arg-type]


def test_too_long_and_empty_prompts_are_refused() -> None:
    with pytest.raises(FusionError, match=r"at most 512 tokens, but they take 500 \+ 96"):
        DECODER.stream(prompt_of("a" * 500), DecodeOptions())
    none = torch.empty(0, dtype=torch.long)
    with pytest.raises(FusionError, match="at least one token"):
        DECODER.prefill(EmbeddedPrompt(none, DECODER.embed(none)), DECODER.new_cache())


def test_load_reads_back_what_was_saved(tmp_path: Path) -> None:
    DECODER.model.save_pretrained(tmp_path / "m")
    DECODER.tokenizer.save_pretrained(tmp_path / "m")
    loaded = Decoder.load(tmp_path / "m", dtype=torch.float32)
    assert (loaded.name, loaded.hidden_size) == ("m", DECODER.hidden_size)
    options = DecodeOptions(max_tokens=15)
    assert "".join(loaded.stream(prompt_of("hi", loaded), options)) == "".join(
        DECODER.stream(prompt_of("hi"), options)
    )


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FusionError, match=r"no config\.json"):
        Decoder.load(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "qwen2"}')
    with pytest.raises(FusionError, match="does not load"):
        Decoder.load(tmp_path)


@pytest.mark.models
def test_real_model_equals_generate(
    model_folder: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> None:
    source = next(model_folder("qwen2.5-coder-0.5b-instruct").glob("*.gguf"))
    folder = convert_gguf(source, tmp_path_factory.getbasetemp() / "qwen")
    decoder = Decoder.load(folder)
    prompt = PromptBuilder(decoder).build([Turn("user", ("Name three fruits.",))])
    text = "".join(decoder.stream(prompt, DecodeOptions(max_tokens=16)))
    assert text == generated(decoder, prompt, 16)
    assert "pple" in text
