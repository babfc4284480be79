from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from assistant.errors import ConfigError
from assistant.jobs.dub.lines import Line
from assistant.jobs.dub.translate_text import TextOptions, TextTranslator

LANGUAGES = ["deu_Latn", "eng_Latn", "arb_Arab", "zho_Hans", "zho_Hant"]
SILENCE = np.zeros(0, np.float32)


def line(text: str, language: str = "de") -> Line:
    return Line(1, 0, 1000, 0, language, "A", text)


@pytest.fixture(scope="module")
def nllb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    from transformers import M2M100Config, M2M100ForConditionalGeneration, NllbTokenizer

    folder = tmp_path_factory.mktemp("nllb-tiny")
    words = ["<s>", "<pad>", "</s>", "<unk>", "▁", *"abcdefghijklmnopqrstuvwxyz"]
    tokenizer = NllbTokenizer(
        vocab={word: at for at, word in enumerate(words)},
        merges=[],
        src_lang="eng_Latn",
        tgt_lang="deu_Latn",
        extra_special_tokens=LANGUAGES,
    )
    torch.manual_seed(3)
    sizes = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
    width = {"encoder_ffn_dim": 32, "decoder_ffn_dim": 32, "max_position_embeddings": 256}
    config = M2M100Config(vocab_size=len(tokenizer), init_std=0.5, **sizes, **heads, **width)
    M2M100ForConditionalGeneration(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    yield folder


def library(folder: Path, text: str, source: str, target: str, count: int) -> list[str]:
    """The translations as the documentation of NLLB says to make them."""
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, src_lang=source)
    model = AutoModelForSeq2SeqLM.from_pretrained(folder)
    inputs = tokenizer(text, return_tensors="pt")
    made = model.generate(
        **inputs,
        forced_bos_token_id=tokenizer.convert_tokens_to_ids(target),
        num_beams=count,
        num_return_sequences=count,
        max_length=None,
        max_new_tokens=inputs["input_ids"].shape[1] * 3 + 32,
    )
    return [text.strip() for text in tokenizer.batch_decode(made, skip_special_tokens=True)]


@pytest.mark.parametrize(
    ("language", "source", "target", "code"),
    [
        ("de", "deu_Latn", "en", "eng_Latn"),
        ("ar", "arb_Arab", "zh", "zho_Hans"),
        ("en", "eng_Latn", "zho_Hant", "zho_Hant"),
    ],
)
def test_nllb_as_the_library(
    nllb: Path, language: str, source: str, target: str, code: str
) -> None:
    translator = TextTranslator.load(nllb, target, TextOptions(beams=3, wordings=3))
    for text in ("guten tag", "wie geht es dir heute"):
        got = translator.translations(text, language)
        assert got == library(nllb, text, source, code, 3)
        assert got == translator.translations(text, language)


def test_languages_change_the_translation(nllb: Path) -> None:
    translator = TextTranslator.load(nllb, "en")
    assert translator.translations("guten tag", "de") != translator.translations("guten tag", "zh")


def test_line_in_the_target_language_stays(nllb: Path) -> None:
    translator = TextTranslator.load(nllb, "de")
    assert translator(line("Guten Tag."), SILENCE, (), ()) == ("Guten Tag.",)
    assert translator.name == nllb.name
    assert str(nllb) not in translator.name


def test_wordings_are_neither_empty_nor_endless(
    nllb: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    translator = TextTranslator.load(nllb, "en")
    found = ["good day", "", "day day " * 30, "good day", "hello"]
    monkeypatch.setattr(translator, "translations", lambda text, language: found)
    assert translator(line("guten tag"), SILENCE, (), ()) == ("good day", "hello")


def test_unknown_languages_are_refused(nllb: Path) -> None:
    with pytest.raises(ConfigError, match="does not know the language 'fr'.*deu_Latn"):
        TextTranslator.load(nllb, "fr")
    with pytest.raises(ConfigError, match="does not know the language 'ja'"):
        TextTranslator.load(nllb, "en").translations("konnichiwa", "ja")


class FakeConfig:
    def __init__(self, kind: str) -> None:
        self.model_type = kind


class FakeModel:
    """A model as far as the languages are concerned."""

    def __init__(self, kind: str) -> None:
        self.config = FakeConfig(kind)

    def eval(self) -> "FakeModel":
        return self


class FakeTokens:
    all_special_tokens: tuple[str, ...] = ()

    def __init__(self, **values: Any) -> None:
        self.__dict__.update(values)


def test_marian_knows_its_pair_or_its_targets() -> None:
    pair = FakeTokens(source_lang="de", target_lang="en", supported_language_codes=[])
    assert TextTranslator(FakeModel("marian"), pair, "en", "m").target == "en"
    with pytest.raises(ConfigError, match="'fr'; it knows en"):
        TextTranslator(FakeModel("marian"), pair, "fr", "m")
    with pytest.raises(ConfigError, match="'it'; it knows de"):
        TextTranslator(FakeModel("marian"), pair, "en", "m").translations("ciao", "it")
    several = FakeTokens(supported_language_codes=[">>fra<<", ">>es<<"])
    assert TextTranslator(FakeModel("marian"), several, "fr", "m")._codes.out_of("en") == ">>fra<< "
    assert TextTranslator(FakeModel("marian"), several, "es", "m")._codes.out_of("en") == ">>es<< "
    with pytest.raises(ConfigError, match="'de'; it knows >>es<<, >>fra<<"):
        TextTranslator(FakeModel("marian"), several, "de", "m")


def test_m2m_codes() -> None:
    class Tokens(FakeTokens):
        src_lang = ""

        def get_lang_id(self, code: str) -> int:
            return int(self.lang_code_to_id[code])

    tokens = Tokens(lang_code_to_id={"de": 7, "en": 9})
    translator = TextTranslator(FakeModel("m2m_100"), tokens, "en", "m2m")
    assert translator._codes.into("en") == {"forced_bos_token_id": 9}
    assert translator._codes.out_of("de") == "" and tokens.src_lang == "de"
    with pytest.raises(ConfigError, match="'xx'; it knows de, en"):
        translator._codes.out_of("xx")


def test_bad_models_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="found no config.json"):
        TextTranslator.load(tmp_path, "en")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ConfigError, match="Cannot load the translation model"):
        TextTranslator.load(tmp_path, "en")
    with pytest.raises(ConfigError, match="Expected a Marian, M2M100 or NLLB.*'bert'"):
        TextTranslator(FakeModel("bert"), FakeTokens(), "en", "b")
    with pytest.raises(ConfigError, match="as many beams as wordings"):
        TextOptions(beams=2, wordings=3)
