"""Exchanges models while the server runs: what stays is kept, what is new is loaded beside it."""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from assistant.loading import Models
from assistant.models import PullProgress
from assistant.server.engine import Engine
from assistant.server.errors import ApiError
from assistant.server.state import ServerState

if TYPE_CHECKING:
    from audio.asr import Recogniser
    from audio.tts import Voice
    from fusion.decoder import Decoder
    from vision.encoders import ImageEncoder

#: The settings that name a model, with what the catalogue calls their task.
ROLES: Mapping[str, str] = {
    "recogniser": "speech recognition",
    "language_model": "language model",
    "voice": "voice",
    "image_encoder": "image encoder",
}


@dataclass(frozen=True)
class Step:
    """How far an exchange is; ``total`` is 0 while there is nothing to count."""

    stage: str
    model: str
    done: int = 0
    total: int = 0


Tell = Callable[[Step], None]


class ExchangedModels(Models):
    """Models of new settings that keep those of the old whose setting is the same.

    Only the kept ones are held, so that what was replaced goes when its last session ends.
    """

    def __init__(self, old: Models, chosen: Mapping[str, str], progress: PullProgress) -> None:
        super().__init__(old.settings.model_copy(update=dict(chosen)), progress)
        self._kept_recogniser = None if "recogniser" in chosen else old.recogniser
        self._kept_voice = None if "voice" in chosen else old.voice
        self._kept_encoder = None if "image_encoder" in chosen else old.encoder
        self._kept_decoder = None if "language_model" in chosen else old.decoder

    @property
    def recogniser(self) -> "Recogniser":
        """The kept recogniser, or the new one."""
        return self._kept_recogniser or super().recogniser

    @property
    def voice(self) -> "Voice":
        """The kept voice, or the new one."""
        return self._kept_voice or super().voice

    @property
    def encoder(self) -> "ImageEncoder":
        """The kept image encoder, or the new one."""
        return self._kept_encoder or super().encoder

    @property
    def decoder(self) -> "Decoder":
        """The kept language model, or the new one."""
        return self._kept_decoder or super().decoder


class _Downloads(PullProgress):
    """Turns the progress of downloads into steps."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell

    @contextmanager
    def model(self, name: str, total_bytes: int) -> Iterator[Callable[[int], None]]:
        """Counts the bytes of one model."""
        done = 0

        def advance(block: int) -> None:
            nonlocal done
            done += block
            self._tell(Step("fetching", name, done, total_bytes))

        yield advance


def exchanged(old: Engine, chosen: Mapping[str, str], tell: Tell) -> Engine:
    """An engine with the chosen models, by their roles, and all else of ``old``; takes seconds.

    The threads stay the same: there is one for each kind of model, whichever model it is.

    Raises:
        VoxsightError and the rooms' errors: a model is missing, damaged or does not fit.
    """
    from assistant.live import live_parts
    from assistant.writing import Writer

    models = ExchangedModels(old.models, chosen, _Downloads(tell))
    for role, name in chosen.items():
        tell(Step("loading", name))
        if role == "language_model":
            models.language_model_folder()
        else:
            models.folder(name)
        tell(Step("loading", name))  # what was fetched is there
    parts = live_parts(models, old.workers)
    return Engine(models, old.workers, parts, Writer(models.decoder, models.prompt_builder))


class Exchange:
    """The exchanges of one server, one at a time.

    Sessions that run keep what they began with; the next ones get the new models.

    Args:
        state: the server whose engine is exchanged.
        load: makes the new engine, in a thread of its own.
    """

    def __init__(
        self,
        state: ServerState,
        load: Callable[[Engine, Mapping[str, str], Tell], Engine] = exchanged,
    ) -> None:
        self._state, self._load = state, load
        self._task: asyncio.Task[None] | None = None
        #: Written by the thread that loads, read by whoever watches: a whole value each time.
        self.step = Step("idle", "")

    @property
    def running(self) -> bool:
        """Whether models are being exchanged."""
        return self._task is not None and not self._task.done()

    def start(self, chosen: Mapping[str, str]) -> "asyncio.Task[None]":
        """Begin; whoever asked may leave, it is done all the same.

        Raises ApiError 409 if an exchange is running.
        """
        if self.running:
            raise ApiError(
                409,
                "Models are being exchanged; wait until that is done.",
                code="exchange_running",
            )
        self._tell(Step("loading", next(iter(chosen.values()))))
        self._task = asyncio.create_task(self._run(self._state.engine, chosen))
        # Whoever asked may be gone; then nobody asks how it ended.
        self._task.add_done_callback(lambda done: done.cancelled() or done.exception())
        return self._task

    async def _run(self, old: Engine, chosen: Mapping[str, str]) -> None:
        self._state.engine = await asyncio.to_thread(self._load, old, chosen, self._tell)

    def _tell(self, step: Step) -> None:
        self.step = step
