"""The loop that a session is compared with does everything, in order, with the published parts."""

from types import SimpleNamespace
from typing import Any

import numpy as np

from assistant.bench.talk_sequential import Loop, generate, own_loop, published_loop
from audio.pcm import Samples
from fusion.decoder import DecodeOptions
from fusion.prompt import PromptBuilder, Turn
from tests.fusion.tiny import tiny_decoder

_QUESTION = np.zeros(1600, np.float32)
_TOKENS = 12


def asking(text: str) -> list[Turn]:
    return [Turn("user", (text,))]


def test_each_stage_takes_what_the_one_before_has_given() -> None:
    given: list[Any] = []

    def transcribe(samples: Samples) -> str:
        given.append(len(samples))
        return "who"

    def write(text: str) -> str:
        given.append(text)
        return "me"

    assert Loop(transcribe, write, given.append).seconds(_QUESTION) > 0
    assert given == [1600, "who", "me"]


def test_generate_from_scratch_writes_what_the_decoder_writes() -> None:
    decoder = tiny_decoder()
    prompt = PromptBuilder(decoder).build(asking("abc"))
    ours = "".join(decoder.stream(prompt, DecodeOptions(_TOKENS)))
    assert ours
    assert generate(decoder, prompt, _TOKENS) == ours


def test_both_loops_write_and_speak_the_whole_answer() -> None:
    decoder, spoken, fed = tiny_decoder(), [], []
    builder = PromptBuilder(decoder)
    models: Any = SimpleNamespace(
        settings=SimpleNamespace(recogniser_beam=1),
        recogniser=SimpleNamespace(transcribe=lambda sound, _: SimpleNamespace(text="abc")),
        prompts=SimpleNamespace(ask=asking),
        prompt_builder=builder,
        prompt_cache=decoder.new_cache,
        decoder=decoder,
        voice=SimpleNamespace(
            speak=spoken.append, phonemes=lambda text: text, ids=lambda text: [len(text)]
        ),
    )
    piper = SimpleNamespace(run=lambda _, inputs: fed.append(inputs["input"].tolist()))
    own_loop(models, _TOKENS).seconds(_QUESTION)
    published = published_loop(models, lambda _: "abc", decoder, piper, _TOKENS)
    published.seconds(_QUESTION)
    prompt = builder.build(asking("abc"))
    assert spoken == ["".join(decoder.stream(prompt, DecodeOptions(_TOKENS)))]
    assert len(fed) == 1
