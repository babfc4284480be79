"""What a worker does: reads a group of recordings, recognises them together, writes the results."""

from collections.abc import Callable
from dataclasses import dataclass

from assistant.config import Settings
from assistant.errors import USER_ERRORS
from assistant.inputs import media_limits
from assistant.jobs.engine import reason
from assistant.jobs.files import Recording
from assistant.jobs.grouping import Group
from assistant.jobs.outputs import Outputs, Recipe, Stamp, confidence
from assistant.loading import Models
from audio.asr import Recogniser, Transcript
from audio.asr_batch import transcribe_many
from audio.features.dispatch import prepare
from audio.media import read_sound
from audio.pcm import Sound


@dataclass(frozen=True)
class Done:
    """A result was written: so many words were heard, with this mean probability."""

    recording: Recording
    sound_s: float
    language: str
    confidence: float | None
    words: int


@dataclass(frozen=True)
class Failed:
    """No result was written; ``reason`` is one sentence."""

    recording: Recording
    reason: str


@dataclass(frozen=True)
class RecogniseWorker:
    """One recogniser, and where its results go; ``heard`` is told how many s of sound are done."""

    recogniser: Recogniser
    settings: Settings
    recipe: Recipe
    outputs: Outputs
    heard: Callable[[float], object] | None = None

    @classmethod
    def make(
        cls,
        settings: Settings,
        recipe: Recipe,
        outputs: Outputs,
        heard: Callable[[float], object] | None = None,
    ) -> "RecogniseWorker":
        """Loads the recogniser that the settings name."""
        outputs.check_seen()
        prepare()
        folder = Models(settings).folder(settings.recogniser)
        # Of many windows, each on a core of its own is faster than one after the other on all.
        windows = settings.threads if recipe.device == "cpu" else 1
        recogniser = Recogniser.load(folder, threads=1, workers=windows, device=recipe.device)
        return cls(recogniser, settings, recipe, outputs, heard)

    def __call__(self, group: Group) -> tuple[Done | Failed, ...]:
        """Transcribes a group; one that cannot be read or written does not keep the others."""
        ended: list[Done | Failed] = []
        read: list[tuple[Recording, Stamp, Sound]] = []
        for recording in group.recordings:
            try:
                read.append((recording, *self._read(recording)))
            except (*USER_ERRORS, OSError) as error:
                ended.append(failed(recording, reason(error)))
        if read:
            options = self.recipe.options_for(read[0][0])
            sounds = [sound for _, _, sound in read]
            heard = transcribe_many(self.recogniser, sounds, options, progress=self.heard)
            for (recording, stamp, _), transcript in zip(read, heard, strict=True):
                ended.append(self._write(recording, stamp, transcript))
        return tuple(ended)

    def _read(self, recording: Recording) -> tuple[Stamp, Sound]:
        stamp = Stamp.of(recording.path)
        return stamp, read_sound(recording.path, limits=media_limits(self.settings))

    def _write(self, recording: Recording, stamp: Stamp, transcript: Transcript) -> Done | Failed:
        try:
            self.outputs.write(recording, self.recipe, stamp, transcript)
        except OSError as error:
            return failed(recording, f"cannot write the result: {error.strerror}")
        mean, words = confidence(transcript)
        return Done(recording, transcript.duration_s, transcript.language, mean, words)


def failed(recording: Recording, why: str) -> Failed:
    """The failure, told without the folder where the recording happens to be."""
    return Failed(recording, why.replace(str(recording.path), recording.name))
