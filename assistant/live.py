"""Makes sessions out of the loaded models."""

from functools import partial
from typing import Any

import numpy as np

from assistant.answering import Workers
from assistant.loading import Models
from assistant.memory import Memory
from assistant.reply import Tongue
from assistant.session import Parts
from audio.asr_stream import ListenOptions, StreamingRecogniser
from audio.asr_types import RecogniseOptions
from audio.pcm import SAMPLE_RATE
from audio.speech_text import SplitRules
from audio.vad import SileroVad
from fusion.adapter import SoftTokens
from fusion.decoder import DecodeOptions

#: Of all earlier turns of a conversation, in tokens.
MEMORY_TOKENS = 1500
#: An answer's first words are spoken before its first clause is written: so many characters last
#: 0.7 s, time enough to write several times as many.
OPENING = 10


def live_parts(
    models: Models, workers: Workers, *, language: str | None = None, memory: int = MEMORY_TOKENS
) -> Parts:
    """Load what a conversation needs, once for all sessions.

    Args:
        models: the settings' models.
        workers: the threads that the models run in.
        language: of the person who speaks; None to find it out.
        memory: tokens that a conversation remembers.
    """
    models.load_all()
    decoder = models.decoder
    listen = ListenOptions(
        RecogniseOptions(language=language, beam_size=models.settings.recogniser_beam)
    )

    def look(image: Any) -> SoftTokens:
        return models.adapter(models.encoder.encode(image))

    def count(text: str) -> int:
        return len(decoder.token_ids(text))

    parts = Parts(
        activity=SileroVad.load(),
        listener=StreamingRecogniser(models.recogniser, listen),
        look=look,
        decoder=decoder,
        prompts=models.prompt_builder,
        new_cache=models.prompt_cache,
        new_memory=partial(Memory, models.prompts, limit_tokens=memory, count=count),
        tongue=Tongue(models.voice, workers.speak, SplitRules(opening=OPENING)),
        listening=workers.listen,
        looking=workers.look,
        thinking=workers.think,
    )
    _warm_up(parts)
    return parts


def _warm_up(parts: Parts) -> None:
    """Use every model once: the first call of each is several times slower than the next."""
    listener = parts.listener
    state = listener.state()
    noise = np.random.default_rng(0).standard_normal(SAMPLE_RATE).astype(np.float32)
    listener.hear(state, noise * np.float32(0.01), SAMPLE_RATE)
    request = listener.request(state)
    if request is not None:
        listener.recognise(request)
    prompt = parts.prompts.build(parts.new_memory().question("Hello."))
    next(parts.decoder.stream(prompt, DecodeOptions(max_tokens=2), parts.new_cache()), "")
    for _ in parts.tongue.voice.start().stream("Hello."):
        pass
