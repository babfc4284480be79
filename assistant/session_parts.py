"""What a session is made of: its limits, and the models and threads that sessions share."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from assistant.ear import Listener, VoiceActivity
from assistant.errors import VoxsightError
from assistant.memory import Memory
from assistant.reply import Tongue
from assistant.workers import Worker
from audio.turn import TurnConfig
from fusion.adapter import SoftTokens
from fusion.decoder import Decoder, KVCache
from fusion.prompt import PromptBuilder
from vision.frames import FrameOptions


@dataclass(frozen=True)
class SessionConfig:
    """All limits of one session.

    Raises VoxsightError for a value out of range.
    """

    turns: TurnConfig = field(default_factory=TurnConfig)
    frames: FrameOptions = field(default_factory=FrameOptions)
    #: Recognition runs again when so much more was said.
    recognise_every_ms: int = 500
    #: Events that may wait for the client. One that has not read so many has left, and its session
    #: ends: to drop some would leave holes in what it hears.
    waiting_events: int = 1024
    #: Longest piece of sound that may come in at once.
    longest_chunk_s: float = 10.0
    max_answer_tokens: int = 96

    def __post_init__(self) -> None:
        for name in ("recognise_every_ms", "waiting_events", "longest_chunk_s"):
            if getattr(self, name) <= 0:
                raise VoxsightError(f"Expected {name} above 0, got {getattr(self, name)}.")


@dataclass(frozen=True)
class Parts:
    """The models that sessions share, and the threads that they run in."""

    activity: VoiceActivity
    listener: Listener
    look: Callable[[Any], SoftTokens]  # takes a picture (PIL, RGB)
    decoder: Decoder
    prompts: PromptBuilder
    new_cache: Callable[[], KVCache]
    new_memory: Callable[[], Memory]
    tongue: Tongue
    listening: Worker
    looking: Worker
    thinking: Worker
