import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import (
    CLIPVisionConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
)

from fusion.adapter_file import AdapterHeader, read_adapter, save_adapter
from fusion.adapters import build_dictionary, load_adapter
from fusion.decoder import Decoder
from fusion.dictionary import DictionaryAdapter, Wording
from fusion.errors import FusionError
from fusion.projector import MlpProjector
from fusion.prompt import inject
from fusion.resampler import PoolingResampler
from fusion.scene import Logistic, SceneReader
from tests.fusion.tiny import HIDDEN, Features, Words, byte_tokenizer, tiny_config, tiny_decoder

DECODER = tiny_decoder()


def rows(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# --- LLaVA's projector ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def llava() -> LlavaForConditionalGeneration:
    torch.manual_seed(3)
    vision = CLIPVisionConfig(
        hidden_size=24,
        intermediate_size=32,
        num_hidden_layers=3,
        num_attention_heads=2,
        image_size=8,
        patch_size=2,
        projection_dim=16,
    )
    config = LlavaConfig(
        vision_config=vision, text_config=tiny_config(), image_token_id=259, image_seq_length=16
    )
    return LlavaForConditionalGeneration(config).eval().float()


def llava_features(llava: LlavaForConditionalGeneration, pixels: Tensor) -> Features:
    tower = llava.model.vision_tower
    with torch.inference_mode():
        hidden = tower(pixels, output_hidden_states=True).hidden_states[-2][0, 1:]
    return Features(hidden, hidden.mean(0), (4, 4), "clip")


def test_llava_gives_the_same_logits_through_our_path(
    llava: LlavaForConditionalGeneration, tmp_path: Path
) -> None:
    llava.save_pretrained(tmp_path)
    pixels = rows(1, 3, 8, 8)
    projector = MlpProjector.from_llava(tmp_path, "clip")
    soft = projector(llava_features(llava, pixels)).embeddings
    ids = [7, 9, *[259] * 16, 30, 31]
    language = Decoder.of(_language_part(llava), byte_tokenizer(), "llava")
    ours = language.prefill(inject(language, ids, 259, [soft]), language.new_cache())
    with torch.inference_mode():
        out = llava(input_ids=torch.tensor([ids]), pixel_values=pixels)
        blank = llava(input_ids=torch.tensor([ids]), pixel_values=torch.zeros_like(pixels))
    torch.testing.assert_close(ours, out.logits[0, -1], atol=1e-5, rtol=1e-4)
    assert not torch.allclose(ours, blank.logits[0, -1], atol=1e-3)  # the picture matters


def _language_part(llava: LlavaForConditionalGeneration) -> nn.Module:
    from transformers import Qwen2ForCausalLM

    model = Qwen2ForCausalLM(llava.config.text_config).float()
    model.model.load_state_dict(llava.model.language_model.state_dict())
    model.lm_head.load_state_dict(llava.lm_head.state_dict())
    return model


@pytest.mark.parametrize(
    "names",
    [
        ("mm_projector.0", "mm_projector.2"),
        ("model.mm_projector.0", "model.mm_projector.2"),
        ("multi_modal_projector.linear_1", "multi_modal_projector.linear_2"),
        ("model.multi_modal_projector.linear_1", "model.multi_modal_projector.linear_2"),
    ],
)
@pytest.mark.parametrize("pickled", [False, True])
def test_every_spelling_of_the_projector_is_known(
    names: tuple[str, str], pickled: bool, tmp_path: Path
) -> None:
    reference = nn.Sequential(nn.Linear(6, 8), nn.GELU(), nn.Linear(8, 8))
    tensors = {
        f"{new}.{part}": reference.state_dict()[f"{old}.{part}"].clone()
        for new, old in zip(names, ("0", "2"), strict=True)
        for part in ("weight", "bias")
    }
    if pickled:
        torch.save(tensors, tmp_path / "mm_projector.bin")
    else:
        save_file(tensors, tmp_path / "model-2.safetensors")
        save_file({"other": rows(2)}, tmp_path / "model-1.safetensors")
        files = dict.fromkeys(tensors, "model-2.safetensors") | {"other": "model-1.safetensors"}
        index = json.dumps({"weight_map": files})
        (tmp_path / "model.safetensors.index.json").write_text(index)
    patches = rows(5, 6)
    found = MlpProjector.from_llava(tmp_path, "e")(Features(patches, patches[0], encoder="e"))
    torch.testing.assert_close(found.embeddings, reference(patches).detach())


def test_what_is_no_projector_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FusionError, match="there are none"):
        MlpProjector.from_llava(tmp_path, "e")
    save_file({"x": rows(2)}, tmp_path / "a.safetensors")
    with pytest.raises(FusionError, match="expected LLaVA's projector"):
        MlpProjector.from_llava(tmp_path, "e")
    save_file({"mm_projector.0.weight": rows(2, 2)}, tmp_path / "a.safetensors")
    with pytest.raises(FusionError, match=r"0\.bias is missing"):
        MlpProjector.from_llava(tmp_path, "e")
    (tmp_path / "a.safetensors").write_bytes(b"nonsense")
    with pytest.raises(FusionError, match="cannot be read"):
        MlpProjector.from_llava(tmp_path, "e")


# --- the resampler -------------------------------------------------------------------------------


def test_resampler_equals_torchs_attention() -> None:
    torch.manual_seed(0)
    ours = PoolingResampler("e", 12, 16, tokens=5, heads=4).eval()
    theirs = nn.MultiheadAttention(16, 4, kdim=12, vdim=12, batch_first=True).eval()
    state = {
        "q_proj_weight": ours.to_query.weight,
        "k_proj_weight": ours.to_key.weight,
        "v_proj_weight": ours.to_value.weight,
        "in_proj_bias": torch.cat((ours.to_query.bias, ours.to_key.bias, ours.to_value.bias)),
        "out_proj.weight": ours.out.weight,
        "out_proj.bias": ours.out.bias,
    }
    theirs.load_state_dict(state)
    patches = rows(9, 12)
    seen = ours.patch_norm(patches)
    read = theirs(ours.query_norm(ours.queries)[None], seen[None], seen[None])[0][0]
    tokens = ours.queries + read
    expected = tokens + ours.feed(ours.feed_norm(tokens))
    found = ours(Features(patches, patches[0], encoder="e")).embeddings
    torch.testing.assert_close(found, expected.detach())
    assert found.shape == (5, 16)


def test_resampler_does_not_mind_the_number_of_patches() -> None:
    resampler = PoolingResampler("e", 12, 16, tokens=5, heads=4)
    again = PoolingResampler.from_tensors(resampler.state_dict(), "e", 4)
    for count in (1, 50):
        features = Features(rows(count, 12), rows(12), encoder="e")
        assert torch.equal(again(features).embeddings, resampler.eval()(features).embeddings)


def test_resampler_refuses_what_does_not_fit() -> None:
    with pytest.raises(FusionError, match="3 heads divide"):
        PoolingResampler("e", 12, 16, heads=3)
    with pytest.raises(FusionError, match="pooling resampler"):
        PoolingResampler.from_tensors({"queries": rows(2, 16)}, "e", 4)
    resampler = PoolingResampler("e", 12, 16)
    for wrong in (Features(rows(3, 12), rows(12), encoder="x"), Features(rows(3, 11), rows(11))):
        with pytest.raises(FusionError, match="expected features of e with 12"):
            resampler(wrong)


# --- the dictionary ------------------------------------------------------------------------------

NAMES = ("cat", "a long dog", "sun", "cat")


def table(text: str) -> Tensor:
    """One distinct row for each character (a language model of letters)."""
    return torch.stack([rows(6, seed=ord(letter)) for letter in text])


def dictionary(**changes: Any) -> DictionaryAdapter:
    words = Words(NAMES, torch.eye(4) * 10, torch.zeros(4))
    return DictionaryAdapter.build("toy", words, table, tokens_per_name=4, **changes)


def seen(*strengths: float) -> Features:
    pooled = torch.tensor(strengths, dtype=torch.float32)
    return Features(pooled[None].repeat(49, 1), pooled, (7, 7), "toy")


def test_a_clear_picture_reads_as_its_name() -> None:
    soft = dictionary()(seen(0, 1, 0, 0))
    torch.testing.assert_close(soft.embeddings, table(" a l"), atol=1e-4, rtol=1e-4)
    assert soft.recognised
    assert soft.guesses[0].name == "a long dog"


def test_soft_tokens_are_the_softmax_weighted_sum() -> None:
    adapter = dictionary(sharpness=0.3)
    logits = torch.tensor([2.0, 1.5, 1.0, -3.0])
    found = adapter.name_tokens(logits)
    share = (0.3 * logits).softmax(0)
    names = [table(f" {name}"[:4]) for name in NAMES]
    for place in range(4):
        expected = sum(s * n[place] for s, n in zip(share, names, strict=True))
        torch.testing.assert_close(found[place], expected / share.sum())


def test_short_names_do_not_fade_the_end_of_long_ones() -> None:
    words = Words(("ab", "abcdef"), torch.eye(2), torch.zeros(2))
    adapter = DictionaryAdapter.build("toy", words, table, sharpness=1.0)
    found = adapter.name_tokens(torch.tensor([0.0, 0.1]))
    assert len(found) == 6
    torch.testing.assert_close(found[3:], table("cde"))


def test_a_word_that_stands_twice_adds_up() -> None:
    guesses = dictionary()(seen(1.0, 0, 0, 1.0)).guesses
    assert [g.name for g in guesses].count("cat") == 1
    assert guesses[0].probability > 0.99


def test_what_resembles_nothing_says_so() -> None:
    soft = dictionary(reader=SceneReader(least_probability=0.9))(seen(0.1, 0.1, 0.1, 0))
    assert not soft.recognised
    assert torch.equal(soft.embeddings, table(Wording().nothing))


def test_doubt_is_told() -> None:
    soft = dictionary(reader=SceneReader(temperature=20.0))(seen(0, 0, 2.0, 0))
    assert soft.guesses[0].probability < 0.5
    torch.testing.assert_close(soft.embeddings, table(" probably sun"), atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize(
    ("cell", "place"),
    [(0, "in the top left"), (24, "in the centre"), (45, "at the bottom"), (27, "on the right")],
)
def test_places_follow_the_cells(cell: int, place: str) -> None:
    patches = torch.zeros(49, 4)
    patches[cell, 2] = 49.0
    features = Features(patches, patches.mean(0), (7, 7), "toy")
    soft = dictionary(reader=SceneReader(place_gain=torch.ones(2)))(features)
    assert soft.guesses[0] == replace(soft.guesses[0], name="sun", place=place)
    torch.testing.assert_close(
        soft.embeddings, torch.cat((table(" sun"), table(f" {place}"))), atol=1e-4, rtol=1e-4
    )


PAIR = Logistic(torch.zeros(7), torch.ones(7), torch.zeros(7), torch.tensor(3.0))


@pytest.mark.parametrize("upright", [False, True])
def test_two_things_are_told_with_their_places(upright: bool) -> None:
    cells = torch.zeros(7, 7, 4)
    cells[:, :3, 2], cells[:, 4:, 0] = 1.0, 1.0
    cells = cells.transpose(0, 1) if upright else cells
    patches = cells.reshape(49, 4)
    features = Features(patches, patches.mean(0), (7, 7), "toy")
    soft = dictionary(reader=SceneReader(pair=PAIR))(features)
    places = ("at the top", "at the bottom") if upright else ("on the left", "on the right")
    assert [(g.name, g.place) for g in soft.guesses] == [("sun", places[0]), ("cat", places[1])]
    text = f" sun {places[0]} and cat {places[1]}"
    torch.testing.assert_close(soft.embeddings, table(text), atol=1e-3, rtol=1e-3)


def test_two_halves_of_one_thing_are_one() -> None:
    assert len(dictionary(reader=SceneReader(pair=PAIR))(seen(0, 0, 1, 0)).guesses) > 2


def test_dictionary_refuses_what_does_not_fit() -> None:
    with pytest.raises(FusionError, match="expected features of toy with 4 numbers"):
        dictionary()(Features(rows(1, 5), rows(5), encoder="toy"))
    with pytest.raises(FusionError, match="at least one word"):
        DictionaryAdapter.build("toy", Words((), rows(0, 4), rows(0)), table)
    with pytest.raises(FusionError, match="sharpness above 0"):
        dictionary(sharpness=0.0)
    with pytest.raises(FusionError, match="9 places"):
        Wording(places=("here",))


# --- files ---------------------------------------------------------------------------------------


class ToyEncoder:
    name = "toy"
    dim = 4

    def encode(self, image: Any) -> Features:
        raise NotImplementedError

    def class_directions(self, names: Sequence[str] | None = None) -> Words:
        chosen = tuple(names) if names else NAMES
        return Words(chosen, rows(len(chosen), 4), rows(len(chosen)))


def header(kind: str, **changes: Any) -> AdapterHeader:
    settings = {
        "encoder": "toy",
        "encoder_dim": 4,
        "language_model": "tiny",
        "hidden_size": HIDDEN,
        "training_data": "none",
        "licence": "Apache-2.0",
        "command": "made by a test",
    }
    return AdapterHeader(kind=kind, **(settings | changes))


def test_every_kind_comes_back_from_its_file(tmp_path: Path) -> None:
    features = Features(rows(49, 4), rows(4), (7, 7), "toy")
    reader = SceneReader(
        temperature=0.7,
        presence=Logistic(rows(2), torch.ones(2), rows(2, seed=1), torch.tensor(0.4)),
        pair=PAIR,
        pair_threshold=0.9,
        place_gain=torch.tensor([1.2, 1.1]),
    )
    tensors, numbers = reader.to_tensors()
    projector, resampler = MlpProjector("toy", 4, HIDDEN), PoolingResampler("toy", 4, HIDDEN)
    wording = {"doubt": " maybe", "places": [str(i) for i in range(9)]}
    settings = {"reader": numbers, "sharpness": 2.0, "tokens_per_name": 3, "wording": wording}
    cases = (
        (
            header("dictionary", settings=settings),
            tensors,
            build_dictionary(ToyEncoder(), DECODER, None, reader, settings),
        ),
        (header("mlp"), projector.state_dict(), projector),
        (header("resampler", settings={"heads": 8}), resampler.state_dict(), resampler.eval()),
    )
    for about, content, original in cases:
        path = tmp_path / f"{about.kind}.safetensors"
        save_adapter(path, about, content)
        loaded = load_adapter(path, ToyEncoder(), DECODER)
        assert torch.equal(loaded(features).embeddings, original(features).embeddings)
        assert loaded(features).guesses == original(features).guesses
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize(
    "wrong", [{"encoder": "clip"}, {"language_model": "llama"}, {"hidden_size": 5}]
)
def test_adapters_of_other_models_are_refused(wrong: dict[str, Any], tmp_path: Path) -> None:
    save_adapter(tmp_path / "a", header("mlp", **wrong), MlpProjector("toy", 4, 8).state_dict())
    with pytest.raises(FusionError, match=r"between toy and tiny.*but this one joins"):
        load_adapter(tmp_path / "a", ToyEncoder(), DECODER)


def test_an_unknown_kind_is_refused(tmp_path: Path) -> None:
    save_adapter(tmp_path / "a", header("magic"), {"x": rows(1)})
    with pytest.raises(FusionError, match="'magic'"):
        load_adapter(tmp_path / "a", ToyEncoder(), DECODER)


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    with pytest.raises(FusionError, match="cannot be read"):
        read_adapter(path)
    path.write_bytes(b"\x10\0\0\0\0\0\0\0no header at all")
    with pytest.raises(FusionError, match="cannot be read"):
        read_adapter(path)
    save_file({"x": rows(1)}, path)
    with pytest.raises(FusionError, match="it says None"):
        read_adapter(path)
    save_file({"x": rows(1)}, path, metadata={"format": "voxsight-adapter-1", "adapter": "{}"})
    with pytest.raises(FusionError, match="full header"):
        read_adapter(path)
    save_adapter(path, header("mlp"), {"x": torch.tensor([float("nan")])})
    with pytest.raises(FusionError, match="finite"):
        read_adapter(path)


def test_settings_that_do_not_fit_are_refused() -> None:
    for settings in ({"wording": {"unknown": 1}}, {"wording": 3}, {"sharpness": "x"}):
        with pytest.raises(FusionError, match="settings of a dictionary"):
            build_dictionary(ToyEncoder(), DECODER, settings=settings)
    with pytest.raises(FusionError, match="scene reader"):
        SceneReader.from_tensors({}, {"unknown": 1})
    with pytest.raises(FusionError, match="scene reader"):
        SceneReader.from_tensors({"pair.weight": rows(7)}, {})


def test_the_vocabulary_is_open() -> None:
    adapter = build_dictionary(ToyEncoder(), DECODER, ["my bicycle", "the red door"])
    assert adapter.directions.names == ("my bicycle", "the red door")
    found = adapter.name_tokens(torch.tensor([100.0, 0.0]))
    ids = DECODER.token_ids(" my bicycle")[:6]
    torch.testing.assert_close(found, DECODER.embed(ids))
