"""Transcribes a library of recordings, unattended: what is done is kept, what fails is listed."""

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path

from assistant.config import load_settings
from assistant.errors import ConfigError
from assistant.jobs.engine import Engine, Outcome, engine_by_name
from assistant.jobs.failures import Failure, Failures, fingerprint
from assistant.jobs.files import Library, Recording, length_s
from assistant.jobs.grouping import AHEAD, Group, group
from assistant.jobs.outputs import FORMATS, Device, Format, Outputs, Recipe, printable
from assistant.jobs.recognising import Done, Failed, RecogniseWorker, failed
from assistant.jobs.summary import Tally, TranscribeReport
from assistant.loading import Models
from audio.asr_batch import BatchOptions
from audio.asr_types import Task


@dataclass(frozen=True)
class TranscribeOptions:
    """What to do with a library.

    Attributes:
        language: of the recordings whose manifest does not tell it; None detects it.
        task: or ``translate`` into English.
        formats: what is written beside the JSON.
        retry_failed: try again what failed before, though nothing has changed.
        retries: how often a task is given again whose worker died.
        device: on which the recogniser runs; with ``cuda`` and Ray each worker gets a GPU.

    Raises:
        ConfigError: an unknown format, or a negative number of retries.
    """

    language: str | None = None
    task: Task = "transcribe"
    formats: tuple[Format, ...] = FORMATS
    retry_failed: bool = False
    retries: int = 1
    device: Device = "cpu"

    def __post_init__(self) -> None:
        for form in self.formats:
            if form not in FORMATS:
                raise ConfigError(f"Expected formats of {', '.join(FORMATS)}; got {form!r}.")
        if self.device not in ("cpu", "cuda"):
            raise ConfigError(f"Expected the device cpu or cuda, got {self.device!r}.")
        if self.retries < 0:
            raise ConfigError(f"Expected no or some retries, got {self.retries}.")


@dataclass(frozen=True)
class Progress:
    """How far a job is.

    Attributes:
        ended: recordings that are done, were done before, or failed; of ``recordings`` in all.
        failures: those that failed.
        done_s: seconds of sound that this job has gone through, of ``sound_s`` to go through;
            the latter is estimated while not all recordings have been looked at.
    """

    ended: int
    recordings: int
    failures: int
    done_s: float
    sound_s: float


def transcribe(
    sources: Library | Sequence[Path] | Path,
    out: Path,
    options: TranscribeOptions | None = None,
    *,
    models: Models | None = None,
    engine: Engine | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> TranscribeReport:
    """Transcribes recordings into a folder.

    A recording is passed over when its result is there and was made from the same content with
    the same model and options; so a job that was killed goes on where it stopped. One that failed
    before is listed again, and only tried again if it has changed or ``retry_failed`` is set.

    Args:
        sources: files, folders, patterns and manifests; see ``Library`` for the results' names.
        out: the folder of results; ``Outputs`` tells what is in it.
        options: what to do.
        models: whose settings name the recogniser; by default the user's settings.
        engine: runs the work, and is left open; by default this process.
        progress: told after every group of recordings, and on the way where the engine runs here.

    Raises:
        VoxsightError: nothing can be begun: a wrong manifest, no recordings, no model, a folder
            that cannot be written. What goes wrong with one recording is in the report instead.
    """
    options = options or TranscribeOptions()
    models = models or Models(load_settings())
    engine = engine or engine_by_name("local")
    if not isinstance(sources, Library):
        sources = Library([sources] if isinstance(sources, Path) else sources)
    outputs = Outputs(Path(out).absolute(), options.formats)
    recipe = _recipe(models, options)
    lock = outputs.open()
    try:
        failures = Failures(outputs)
        job = _Job(outputs, recipe, options, failures, progress or _silent, len(sources))
        threads = min(models.settings.threads, engine.threads)
        settings = models.settings.model_copy(update={"threads": threads})
        make = partial(RecogniseWorker.make, settings, recipe, outputs)
        return job.run(sources, engine, partial(make, job.hear) if engine.here else make)
    finally:
        outputs.close(lock)


def _silent(_: "Progress") -> None:
    return None


def _recipe(models: Models, options: TranscribeOptions) -> Recipe:
    """Also fetches the model, so that no worker has to."""
    name = models.settings.recogniser
    with (models.folder(name) / "model.bin").open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    recognise = BatchOptions(
        language=options.language,
        task=options.task,
        beam_size=models.settings.recogniser_beam,
    )
    return Recipe(Path(name).name, digest[:16], options.device, recognise)


@dataclass
class _Job:
    """One run over a library."""

    outputs: Outputs
    recipe: Recipe
    options: TranscribeOptions
    failures: Failures
    tell: Callable[[Progress], None]
    recordings: int
    tally: Tally = field(default_factory=Tally)
    seen: int = 0
    to_do_s: float = 0.0
    #: Of sound, in groups that have ended; and in the one at work, as far as that is told.
    done_s: float = 0.0
    heard_s: float = 0.0

    def hear(self, seconds: float) -> None:
        """Takes note of how far the group at work is."""
        self.heard_s += seconds
        self.tell(self._progress())

    def run(
        self, library: Library, engine: Engine, make: Callable[[], RecogniseWorker]
    ) -> TranscribeReport:
        """Groups first; of one that failed as a whole, each recording by itself, as one is to
        blame."""
        began = time.perf_counter()
        alone: list[Recording] = []
        retries = self.options.retries
        with closing(engine.staff(make)) as staff:
            for outcome in staff.map(self._groups(library), retries=retries):
                if outcome.result is None and len(outcome.task.recordings) > 1:
                    alone += outcome.task.recordings
                else:
                    self._take(outcome)
            singles = (Group((recording,), 0.0) for recording in alone)
            for outcome in staff.map(singles, retries=retries):
                self._take(outcome)
        self.tell(self._progress())
        self.failures.close()
        return self.tally.report(self.failures.all(), time.perf_counter() - began)

    def _groups(self, library: Library) -> Iterator[Group]:
        """What is to be done, group by group, looking only so far ahead."""
        recordings = iter(library)
        while window := list(islice(recordings, AHEAD)):
            to_do = [r for r in {r.name: r for r in window}.values() if self._is_to_do(r)]
            measured = [(recording, length_s(recording.path)) for recording in to_do]
            self.seen += len(window)
            self.to_do_s += sum(seconds for _, seconds in measured)
            yield from group(measured)

    def _is_to_do(self, recording: Recording) -> bool:
        if self.outputs.is_done(recording, self.recipe):
            self.tally.skipped += 1
            return False
        known = self.failures.known(recording, self.recipe)
        if known is None or self.options.retry_failed:
            return True
        self.failures.add(known)
        return False

    def _take(self, outcome: Outcome[Group, tuple[Done | Failed, ...]]) -> None:
        ends = outcome.result
        if ends is None:
            ends = tuple(failed(r, str(outcome.failure)) for r in outcome.task.recordings)
        for end in ends:
            if isinstance(end, Done):
                self.tally.add(end)
            else:
                made_from = fingerprint(end.recording, self.recipe)
                name = printable(end.recording.name)
                self.failures.add(Failure(name, end.reason, made_from))
        self.done_s += outcome.task.sound_s
        self.heard_s = 0.0
        self.tell(self._progress())

    def _progress(self) -> Progress:
        ended = self.tally.done + self.tally.skipped + len(self.failures)
        unseen = max(0, self.recordings - self.seen)
        sound_s = self.to_do_s * (1 + unseen / max(1, self.seen))
        done_s = min(self.done_s + self.heard_s, sound_s)
        return Progress(ended, self.recordings, len(self.failures), done_s, sound_s)
