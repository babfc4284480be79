"""Items that a client writes itself: their pictures and sound become what the models understand."""

from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

import numpy as np

from assistant.ear import Listener
from assistant.server.errors import as_api_error
from assistant.server.metrics import Metrics
from assistant.server.realtime.choices import AudioFormat
from assistant.server.realtime.conversation import Entry, Speech
from assistant.server.realtime.formats import (
    AudioIn,
    bytes_per_sample,
    from_base64,
    milliseconds,
    rate_of,
)
from assistant.server.realtime.items import InputAudio, InputImage, Item, MessageItem
from assistant.server.realtime.seeing import Seeing, Start
from assistant.server.realtime.transcripts import Transcripts
from assistant.server.realtime.utterance import Utterance
from assistant.server.realtime.wire import WireError
from assistant.workers import Worker
from audio.pcm import Samples

Work = Callable[[], None]


class ClientItems:
    """Makes entries of items.

    Args:
        seeing: opens pictures.
        start: starts a task of the dialogue.
        worker: the recogniser's thread.
        metrics: times the recogniser.
        longest_s: of one recording.
    """

    def __init__(
        self, seeing: Seeing, start: Start, worker: Worker, metrics: Metrics, longest_s: float
    ) -> None:
        self._seeing, self._start, self._worker = seeing, start, worker
        self._metrics, self._longest_s = metrics, longest_s

    async def entry(
        self,
        item: Item,
        format: AudioFormat,
        listener: Listener,
        transcripts: Transcripts,
        path: str,
    ) -> tuple[Entry, Work]:
        """An entry for an item, and the call that starts what is still to be found out about it.

        A picture or sound that cannot be opened is refused before anything has changed: WireError
        or ApiError, with the field's path.
        """
        item = item.model_copy(update={"status": "completed"})
        entry = Entry(item)
        if not isinstance(item, MessageItem):
            return entry, lambda: None
        content = list(item.content)
        works: list[Callable[[], Coroutine[Any, Any, None]]] = []
        for index, part in enumerate(item.content):
            here = f"{path}.content.{index}"
            if isinstance(part, InputImage):
                image = await self._seeing.open(part.image_url, f"{here}.image_url")
                works.append(partial(self._look, entry, index, image))
            elif isinstance(part, InputAudio) and part.audio is not None:
                samples = self._sound(entry, index, part.audio, format, f"{here}.audio")
                content[index] = part.model_copy(update={"audio": None})
                if part.transcript is None:
                    utterance = Utterance(listener, self._worker, 0, item.id, self._metrics.stage)
                    settle = transcripts.settle_recording
                    works.append(partial(settle, entry, utterance, samples, index))
        entry.item = item.model_copy(update={"content": tuple(content)})
        return entry, lambda: entry.work.extend(self._start(work()) for work in works)

    async def _look(self, entry: Entry, index: int, image: object) -> None:
        try:
            entry.pictures[index] = await self._seeing.look(image)
        except Exception as fault:  # noqa: BLE001 - the border: it costs one item its picture
            self._metrics.error("picture")
            entry.fault = as_api_error(fault)

    def _sound(
        self, entry: Entry, index: int, audio: str, format: AudioFormat, param: str
    ) -> Samples:
        data = from_base64(audio, param)
        decoder = AudioIn(format)
        seconds = milliseconds(len(data), format) / 1000
        if seconds > self._longest_s:
            raise WireError(
                f"Expected at most {self._longest_s:g} s of sound in an item, got {seconds:.1f} s.",
                "invalid_audio",
                param,
            )
        per_ms = rate_of(format) * bytes_per_sample(format) // 1000
        entry.speech[index] = Speech(data, milliseconds(len(data), format), per_ms)
        return np.concatenate((decoder.push(audio), decoder.finish()))
