from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from assistant.config import load_settings
from assistant.errors import ConfigError
from assistant.jobs.dub.lines import Line
from assistant.jobs.dub.options import DubOptions
from assistant.jobs.dub.tools import Tools, one_thread, writes_text
from assistant.jobs.dub.translate_chat import ChatOptions, ChatTranslator
from assistant.loading import Models
from fusion.decoder import DecodeOptions, Finish
from fusion.prompt import Turn

SILENCE = np.zeros(0, np.float32)


def line(text: str, language: str = "de") -> Line:
    return Line(1, 0, 1000, 0, language, "A", text)


class Stream(Iterator[str]):
    def __init__(self, text: str, finish: Finish) -> None:
        self.finish, self._pieces = finish, iter([text[:3], text[3:]])

    def __next__(self) -> str:
        return next(self._pieces)


@dataclass
class Scripted:
    """A decoder and its prompt builder that answer as told and note what they were asked."""

    answers: list[str]
    finish: Finish = Finish.END
    asked: list[tuple[str, DecodeOptions]] = field(default_factory=list)

    def token_ids(self, text: str) -> list[str]:
        return text.split()

    def build(self, turns: list[Turn]) -> str:
        return "\n".join(str(part) for turn in turns for part in turn.parts)

    def stream(self, prompt: str, options: DecodeOptions) -> Stream:
        self.asked.append((prompt, options))
        return Stream(self.answers[(len(self.asked) - 1) % len(self.answers)], self.finish)


def translated(
    model: Scripted, one: Line, before: list[Line], after: list[Line], target: str = "en"
) -> tuple[str, ...]:
    made = ChatTranslator(cast(Any, model), cast(Any, model), target, "scripted")
    return made(one, SILENCE, before, after)


def test_the_neighbours_are_shown_and_the_line_comes_last() -> None:
    model = Scripted(["It is green."])
    before = [line("Wo ist die Bank?"), line("Im Park.")]
    assert translated(model, line("Sie ist grün."), before, [line("Gut.")]) == ("It is green.",)
    prompt, _ = model.asked[0]
    assert prompt.index("Wo ist die Bank?\nIm Park.") < prompt.index("Gut.")
    assert prompt.endswith("from German into English:\nSie ist grün.")
    assert "in as few words" in model.asked[1][0]
    assert [options.temperature for _, options in model.asked] == [0, 0, 0.7, 0.7, 0.7]
    assert [options.seed for _, options in model.asked[2:]] == [1, 2, 3]
    assert {options.max_tokens for _, options in model.asked} == {3 * 3 + 32}


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        ('"It is green."', ("It is green.",)),
        ("Translation: It is  green.\n\nNote: a bench.", ("It is green.",)),
        ("English translation: “It is green.”", ("It is green.",)),
        ("\n\n*It is green.*", ("It is green.",)),
        ("It's 'green', he said.", ("It's 'green', he said.",)),
        ("Sie ist grün", ()),
        ("The translation of the one line that you are asked for.", ()),
        ("1. Translate this line.", ()),
        ("1 2 3 4 5", ("1 2 3 4 5",)),
        ("no no no no no no no no no no no no no no no no no no no no no no no no", ()),
        ("...", ()),
        ("", ()),
        ("It\x00", ()),
    ],
)
def test_answers_are_cleaned_and_nonsense_is_none(answer: str, found: tuple[str, ...]) -> None:
    assert translated(Scripted([answer]), line("Sie ist grün."), [], []) == found


def test_a_name_may_stay_what_it_is() -> None:
    assert translated(Scripted(["Anna!"]), line("Anna."), [], []) == ("Anna!",)


def test_each_wording_once_the_likeliest_first() -> None:
    model = Scripted(["It is green.", "Green.", "It is green.", "It's green."])
    found = translated(model, line("Sie ist grün."), [], [])
    assert found == ("It is green.", "Green.", "It's green.")


def test_an_answer_that_does_not_end_is_none() -> None:
    model = Scripted(["It is green"], Finish.LENGTH)
    assert translated(model, line("Sie ist grün."), [], []) == ()


def test_what_is_in_the_target_language_is_left_as_it_is() -> None:
    model = Scripted(["never"])
    assert translated(model, line("It is green.", "en"), [], []) == ("It is green.",)
    assert not model.asked


@pytest.mark.parametrize("options", [{"drafts": -1}, {"temperature": 0.0}, {"temperature": 100.0}])
def test_options_are_checked(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="0 or more drafts and a temperature above 0"):
        ChatOptions(**options)


@pytest.mark.parametrize(
    ("config", "writes"),
    [
        ('{"architectures": ["Qwen2ForCausalLM"]}', True),
        ('{"architectures": ["MarianMTModel"]}', False),
        ('{"architectures": null}', False),
        ("[]", False),
        ("{", False),
        (None, False),
    ],
)
def test_which_folders_hold_chat_models(tmp_path: Path, config: str | None, writes: bool) -> None:
    if config is not None:
        (tmp_path / "config.json").write_text(config)
    assert writes_text(tmp_path) is writes
    (tmp_path / "model.gguf").touch()
    assert writes_text(tmp_path)


@pytest.mark.models
def test_the_embedded_language_model(model_folder: Callable[[str], Path]) -> None:
    name = "qwen2.5-coder-0.5b-instruct"
    model_folder(name)
    tools = Tools(Models(load_settings(threads=1)), DubOptions(translator=name))
    before = [line("Guten Morgen.")]
    translator = tools.translator
    with one_thread():
        found = translator(line("Ich habe einen Hund und eine Katze."), SILENCE, before, [])
        again = translator(line("Ich habe einen Hund und eine Katze."), SILENCE, before, [])
    assert translator.name == name
    assert "dog" in found[0].lower() and "cat" in found[0].lower()
    assert found == again
