"""A dub from source to file: stages whose results are kept, so that a killed job goes on."""

import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from errno import EDQUOT, ENOSPC
from functools import partial
from pathlib import Path
from typing import cast

from pydantic import JsonValue

from assistant.config import load_settings
from assistant.errors import VoxsightError
from assistant.jobs.content import Result, Results, file_sha256, read_json, write_json
from assistant.jobs.dub.captions import cues, transcript_of
from assistant.jobs.dub.editing import (
    EditedLine,
    Plan,
    apply_edits,
    lines_document,
    read_edits,
    to_edit,
)
from assistant.jobs.dub.extract import SOUND_FILE, SPEECH_FILE, read_extracted
from assistant.jobs.dub.fit import TOO_LONG, fit_line
from assistant.jobs.dub.line_work import (
    FitTask,
    LineMade,
    Lines,
    LineStaff,
    LineTask,
    SpeakTask,
    Spoken,
    TranslateTask,
    line_worker,
)
from assistant.jobs.dub.lines import FittedLine, Line, TranslatedLine
from assistant.jobs.dub.mix import Mixed, VoicePart, layers, mix
from assistant.jobs.dub.mux import Track, mux, picture_end_ms
from assistant.jobs.dub.options import DubOptions, Place, place_of
from assistant.jobs.dub.publish import REPORT_FILE, publish
from assistant.jobs.dub.report import DubReport
from assistant.jobs.dub.tools import Tools, model_key
from assistant.jobs.dub.track_languages import language_name, three_letters
from assistant.jobs.dub.understanding import RECOGNISER, Understanding
from assistant.jobs.dub.voices import assign_voices
from assistant.jobs.engine import Engine
from assistant.loading import Models

__all__ = ["DubOptions", "DubReport", "Progress", "dub"]

#: The stages in order, as they are told.
STAGES = ("extract", "transcribe", "segment", "translate", "fit", "speak", "mix", "mux")
_NEIGHBOURS = 2
_MIX_FILE, _BEDS_FILE = "mix.flac", "beds.flac"


@dataclass(frozen=True)
class Progress:
    """How far a job is: ``done`` of ``total`` steps of a stage, in lines or in ms of sound."""

    stage: str
    done: int
    total: int


def dub(
    source: Path,
    out: Path,
    options: DubOptions | None = None,
    *,
    models: Models | None = None,
    engine: Engine | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> DubReport:
    """Dub a video or a recording.

    Args:
        source: what is dubbed.
        out: the file to write, or a folder for it. Beside it a folder of the same name and .dub
            gets the report, the lines to be edited, the subtitles, a picture of the time line,
            and the results of the stages; a job that was killed goes on with those.
        options: language, voices and so on.
        models: loaded models to share; the recogniser must know the source's languages.
        engine: does the lines, on this machine or on many; in this process when left out.
        progress: told of each step.

    Raises:
        VoxsightError, AudioError: the source cannot be read or has no speech, an option is wrong,
            the output cannot be written, or the disk is full; the stages that are done are kept.
    """
    options = options or DubOptions()
    models = models or Models(load_settings(recogniser=RECOGNISER))
    source = Path(source)
    place = place_of(source, Path(out), options.language)
    tools = Tools(models, options)
    with _tidied(place), _staff(engine, tools, place) as staff:
        return _Job(source, place, tools, staff, progress or _ignore).run()


@contextmanager
def _staff(engine: Engine | None, tools: Tools, place: Place) -> Iterator[LineStaff | None]:
    """Workers for all stages of lines, so that each loads its models once; None without engine."""
    if engine is None:
        yield None
        return
    settings = tools.models.settings.model_copy(update={"threads": engine.threads})
    make = partial(line_worker, settings, tools.options, place.stages.resolve())
    with closing(engine.staff(make)) as staff:
        yield staff


@contextmanager
def _tidied(place: Place) -> Iterator[None]:
    """After a failure no folder stays that holds nothing, and a full disk is told as such."""
    try:
        yield
    except Exception as error:
        if not Results(place.stages).journal() and not (place.folder / REPORT_FILE).exists():
            shutil.rmtree(place.folder, ignore_errors=True)
        if not isinstance(error, OSError):
            raise
        if error.errno not in (ENOSPC, EDQUOT):
            raise
        raise VoxsightError(
            f"The disk is full, so {place.out.name} could not be finished; free some space and "
            "run the same again: what is done is kept."
        ) from error


class _Job:
    """One source on its way."""

    def __init__(
        self,
        source: Path,
        place: Place,
        tools: Tools,
        staff: LineStaff | None,
        progress: Callable[[Progress], None],
    ) -> None:
        self._source, self._place, self._tools = source, place, tools
        self._options, self._staff, self._progress = tools.options, staff, progress
        self._results = Results(place.stages)
        folder = tools.models.folder(tools.models.settings.recogniser)
        self._listener_key = model_key(folder)

    def run(self) -> DubReport:
        """All stages, then what is left for people."""
        sha256 = file_sha256(self._source)
        source = Understanding(self._source, sha256, self._tools, self._results, self._tell)
        extracted = source.extract()
        lines = source.lines(extracted)
        translated = self._translate(lines, extracted)
        voices = self._voices([line.speaker for line in lines])
        plan = self._fit(translated, voices)
        rates: Mapping[int, float] = {}
        if self._options.edits is not None:
            edits = read_edits(self._options.edits, sha256, self._options.language)
            voices = self._voices([edit.speaker for edit in edits])
            plan = self._edited(plan, translated, edits, voices)
            rates = {edit.number: edit.rate for edit in edits if edit.rate is not None}
        self._check_something_to_say(plan)
        spoken = self._speak(plan, voices)
        mixed, facts = self._mix(extracted, spoken, plan)
        made = self._mux(sha256, mixed, spoken)
        report = DubReport(
            source=self._source,
            out=self._place.out,
            folder=self._place.folder,
            language=self._options.language,
            voices={who: Path(name).name for who, name in voices.items()},
            lines=tuple(each.line for each in spoken),
            kept=plan.kept,
            mixed=facts,
        )
        document = lines_document(to_edit(plan, rates), sha256, self._options.language)
        sounds = (extracted.folder / SOUND_FILE, mixed.folder / _MIX_FILE)
        publish(report, made, sounds, document)
        return report

    def _tell(self, stage: str, done: int, total: int) -> None:
        self._progress(Progress(stage, done, total))

    def _translate(self, lines: Sequence[Line], extracted: Result) -> list[TranslatedLine]:
        name = self._options.translator
        key = self._listener_key if name is None else model_key(self._tools.models.folder(name))
        asked = 0 if name is None else _NEIGHBOURS
        tasks = [
            TranslateTask(
                line=line,
                before=tuple(lines[max(0, at - asked) : at]),
                after=tuple(lines[at + 1 : at + 1 + asked]),
                sound=extracted.folder / SPEECH_FILE,
                key=extracted.key,
                translator_key=key,
            )
            for at, line in enumerate(lines)
        ]
        return [cast(TranslatedLine, made) for made in self._each_line("translate", tasks)]

    def _voices(self, speakers: Sequence[str]) -> dict[str, str]:
        names = self._options.voices or (self._tools.models.settings.voice,)
        return assign_voices(speakers, names, dict(self._options.speaker_voices))

    def _voice_key(self, name: str) -> str:
        return model_key(self._tools.models.folder(name))

    def _fit(self, translated: Sequence[TranslatedLine], voices: Mapping[str, str]) -> Plan:
        kept = [line for line in translated if line.kept]
        tasks = [
            FitTask(line, voices[line.line.speaker], self._voice_key(voices[line.line.speaker]))
            for line in translated
            if not line.kept
        ]
        fitted: list[FittedLine] = []
        for made in self._each_line("fit", tasks):
            if isinstance(made, FittedLine):
                fitted.append(made)
            else:
                kept.append(cast(TranslatedLine, made))
        return Plan(tuple(fitted), tuple(sorted(kept, key=lambda line: line.line.number)))

    def _edited(
        self,
        plan: Plan,
        translated: Sequence[TranslatedLine],
        edits: Sequence[EditedLine],
        voices: Mapping[str, str],
    ) -> Plan:
        """The plan as a person corrected it."""

        def fit(line: TranslatedLine) -> FittedLine:
            fitted = fit_line(line, self._tools.voice(voices[line.line.speaker]))
            if fitted is None:
                raise VoxsightError(
                    f"Line {line.line.number} has no room for {line.wordings[0]!r}: {TOO_LONG}."
                )
            return fitted

        return apply_edits(plan, translated, edits, fit, lambda who: self._tools.voice(voices[who]))

    def _check_something_to_say(self, plan: Plan) -> None:
        if not plan.fitted:
            why = plan.kept[0].kept if plan.kept else "it has no lines"
            raise VoxsightError(
                f"Nothing of {self._source.name} could be dubbed, so no file was written: {why}."
            )

    def _speak(self, plan: Plan, voices: Mapping[str, str]) -> list[Spoken]:
        tasks = [
            SpeakTask(line, name, self._voice_key(name), self._listener_key)
            for line in plan.fitted
            for name in [voices[line.line.speaker]]
        ]
        return [cast(Spoken, made) for made in self._each_line("speak", tasks)]

    def _each_line(self, stage: str, tasks: Sequence[LineTask]) -> list[LineMade]:
        """What becomes of each task, in their order; told as they finish."""
        self._tell(stage, 0, len(tasks))
        made: dict[int, LineMade] = {}
        for at, each in self._outcomes(tasks):
            made[at] = each
            self._tell(stage, len(made), len(tasks))
        return [made[at] for at in range(len(tasks))]

    def _outcomes(self, tasks: Sequence[LineTask]) -> Iterable[tuple[int, LineMade]]:
        if self._staff is None:
            worker = Lines(self._tools, self._results)
            yield from ((at, worker(task)) for at, task in enumerate(tasks))
            return
        for outcome in self._staff.map(tasks):
            if outcome.result is None:
                raise VoxsightError(f"{self._source.name}: {outcome.failure}")
            yield outcome.index, outcome.result

    def _beds(self, extracted: Result) -> Result | None:
        weights = self._options.separator
        if self._options.mix.original != "keep-beds" or weights is None:
            return None
        from assistant.jobs.dub.separate import HybridDemucs

        key = file_sha256(weights)

        def make(folder: Path) -> None:
            separator = HybridDemucs.load(weights, key)
            separator.beds(extracted.folder / SOUND_FILE, folder / _BEDS_FILE)

        return self._results.get("separate", {"sound": extracted.key, "weights": key}, make)

    def _mix(self, extracted: Result, spoken: Sequence[Spoken], plan: Plan) -> tuple[Result, Mixed]:
        self._tell("mix", 0, 1)
        beds = self._beds(extracted)
        kept = [(each.line.start_ms, each.line.end_ms) for each in plan.kept]
        ends = [each.line.end_ms for each in spoken]
        parts = [
            VoicePart(each.sound, line.start_ms, line.end_ms, (old.start_ms, old.end_ms))
            for each in spoken
            for line, old in [(each.line, each.line.fitted.line)]
        ]

        def make(folder: Path) -> None:
            own = read_extracted(extracted.folder).duration_ms
            # As long as the picture, and longer only where somebody goes on speaking after it.
            duration = max(picture_end_ms(self._source) or own, *ends)
            original = extracted.folder / SOUND_FILE
            sounds = layers(
                original, parts, kept, self._options.mix, beds.folder / _BEDS_FILE if beds else None
            )
            facts = mix(original, sounds, parts, duration, folder / _MIX_FILE)
            write_json(folder / "facts.json", facts.to_dict())

        inputs: dict[str, JsonValue] = {
            "sound": extracted.key,
            "beds": beds.key if beds else None,
            "voices": [each.sound.parent.name for each in spoken],
            "lines": [each.line.to_dict() for each in spoken],
            "kept": [list(span) for span in kept],
            "options": asdict(self._options.mix),
        }
        result = self._results.get("mix", inputs, make)
        return result, Mixed.from_dict(read_json(result.folder / "facts.json"))

    def _mux(self, sha256: str, mixed: Result, spoken: Sequence[Spoken]) -> Path:
        self._tell("mux", 0, 1)
        code, lines = self._options.language, [each.line for each in spoken]
        track = Track(
            sound=mixed.folder / _MIX_FILE,
            cues=cues(transcript_of(lines, code)),
            language=three_letters(code),
            original_language=_original_language([line.fitted.line for line in lines]),
            title=f"{language_name(code)} (synthetic voice)",
        )
        name = f"dub{self._place.out.suffix.lower()}"

        def make(folder: Path) -> None:
            mux(self._source, track, folder / name)

        inputs: dict[str, JsonValue] = {
            "source": sha256,
            "mix": mixed.key,
            "cues": [[cue.start_ms, cue.end_ms, *cue.lines] for cue in track.cues],
            "name": name,
            "tracks": [track.language, track.original_language, track.title],
        }
        return self._results.get("mux", inputs, make).folder / name


def _original_language(lines: Sequence[Line]) -> str:
    """The language of nearly all that is said, or "mul", which ISO 639-2 has for several."""
    spoken = Counter[str]()
    for line in lines:
        spoken[line.language] += line.slot_ms
    code, most = spoken.most_common(1)[0]
    return three_letters(code) if most > 0.8 * spoken.total() else "mul"


def _ignore(_: Progress) -> None:
    return None
