"""The loop that a session is compared with: record, transcribe, write all, speak all.

The same weights, each in the runtime that it is published for: faster-whisper, transformers and
onnxruntime. A second loop has our own runtimes, so that only the order differs.
"""

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any

from assistant.evals.piper import piper_inputs
from assistant.loading import Models
from audio.asr_types import RecogniseOptions
from audio.pcm import SAMPLE_RATE, Samples, Sound
from audio.speech_text import verbalise
from audio.turn import TurnConfig
from fusion.decoder import DecodeOptions
from fusion.prompt import PromptBuilder

if TYPE_CHECKING:
    from fusion.decoder import Decoder

#: What such a loop waits to know that a recording is over, in s: it has no words yet, so it is as
#: patient as turn taking is with words that it does not know.
RECORDED_S = TurnConfig().done.open_ms / 1000


@dataclass(frozen=True)
class Loop:
    """One stage after the other; each takes all that the one before has given."""

    transcribe: Callable[[Samples], str]
    write: Callable[[str], str]
    speak: Callable[[str], object]

    def seconds(self, question: Samples) -> float:
        """From the end of a recording to the whole answer, spoken."""
        begun = perf_counter()
        self.speak(self.write(self.transcribe(question)))
        return perf_counter() - begun


def own_loop(models: Models, max_tokens: int) -> Loop:
    """With our own runtimes, the system prompt read ahead."""
    options = RecogniseOptions(language="en", beam_size=models.settings.recogniser_beam)

    def write(asked: str) -> str:
        prompt = models.prompt_builder.build(models.prompts.ask(asked))
        cache = models.prompt_cache()
        return "".join(models.decoder.stream(prompt, DecodeOptions(max_tokens), cache))

    return Loop(
        lambda question: models.recogniser.transcribe(Sound(question, SAMPLE_RATE), options).text,
        write,
        models.voice.speak,
    )


def published_loop(
    models: Models,
    transcribe: Callable[[Samples], str],
    reference: "Decoder",
    piper: Any,
    max_tokens: int,
) -> Loop:
    """With the published runtimes.

    Args:
        models: our models; the prompts and the phonemes are theirs.
        transcribe: one call of faster-whisper.
        reference: the same language model in transformers, in bf16.
        piper: an onnxruntime session of the voice.
        max_tokens: of one answer.
    """
    builder, voice = PromptBuilder(reference), models.voice

    def speak(text: str) -> None:
        ids = voice.ids(voice.phonemes(verbalise(text)))
        piper.run(None, piper_inputs(ids))

    def write(asked: str) -> str:
        return generate(reference, builder.build(models.prompts.ask(asked)), max_tokens)

    return Loop(transcribe, write, speak)


def generate(reference: "Decoder", prompt: Any, max_tokens: int) -> str:
    """The text that transformers' ``generate`` gives for a prompt, greedily and from scratch."""
    import torch

    given = prompt.embeddings[None]
    with torch.inference_mode():
        ids = reference.model.generate(
            inputs_embeds=given,
            attention_mask=torch.ones(given.shape[:2], dtype=torch.long),
            max_new_tokens=max_tokens,
            do_sample=False,
        )
    text: str = reference.tokenizer.decode(ids[0], skip_special_tokens=True)
    return text
