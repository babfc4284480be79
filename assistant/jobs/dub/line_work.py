"""The stages that are done line by line, each line a result of its own: one worker, three tasks."""

from dataclasses import dataclass
from pathlib import Path

from pydantic import JsonValue

from assistant.config import Settings
from assistant.jobs.content import Results, read_json, write_json
from assistant.jobs.dub.fit import TOO_LONG, fit_line
from assistant.jobs.dub.lines import FittedLine, Line, SpokenLine, TranslatedLine
from assistant.jobs.dub.options import DubOptions
from assistant.jobs.dub.regions import Span, read_span
from assistant.jobs.dub.speak import VOICE_FILE, read_spoken, speak
from assistant.jobs.dub.tools import Tools, one_thread
from assistant.jobs.dub.translate import translate
from assistant.jobs.engine import Staff, Worker
from assistant.loading import Models
from audio.pcm import SAMPLE_RATE

_FILE = "line.json"
_MARGIN = SAMPLE_RATE // 5  # samples around a line that the translator hears with it


@dataclass(frozen=True)
class TranslateTask:
    """before, after: the neighbours; key: of the extracted sound, which lies in ``sound``."""

    line: Line
    before: tuple[Line, ...]
    after: tuple[Line, ...]
    sound: Path
    key: str
    translator_key: str


@dataclass(frozen=True)
class FitTask:
    """Fit a line for a voice."""

    line: TranslatedLine
    voice: str
    voice_key: str


@dataclass(frozen=True)
class SpeakTask:
    """Speak a fitted line; listener_key: of the recogniser that hears it back."""

    line: FittedLine
    voice: str
    voice_key: str
    listener_key: str


@dataclass(frozen=True)
class Spoken:
    """A spoken line and where its sound is."""

    line: SpokenLine
    sound: Path


LineTask = TranslateTask | FitTask | SpeakTask
LineMade = TranslatedLine | FittedLine | Spoken
LineWorker = Worker[LineTask, LineMade]
LineStaff = Staff[LineTask, LineMade]


class Lines:
    """Does one line after the other with one set of models; a line that is there is not redone."""

    def __init__(self, tools: Tools, results: Results) -> None:
        self._tools, self._results = tools, results

    def __call__(self, task: LineTask) -> LineMade:
        """The line, translated, fitted or spoken.

        A line that no wording fits comes back as a translated one whose original is kept.
        """
        match task:
            case TranslateTask():
                return self._translated(task)
            case FitTask():
                return self._fitted(task)
            case SpeakTask():
                return self._spoken(task)

    def _translated(self, task: TranslateTask) -> TranslatedLine:
        def make(folder: Path) -> None:
            span = Span(
                *(at * SAMPLE_RATE // 1000 for at in (task.line.start_ms, task.line.end_ms))
            )
            samples, _ = read_span(task.sound, span, _MARGIN)
            translator = self._tools.translator  # loading may set the number of threads
            with one_thread():
                made = translate(task.line, samples, translator, task.before, task.after)
            write_json(folder / _FILE, made.to_dict())

        inputs: dict[str, JsonValue] = {
            "line": task.line.to_dict(),
            "before": [line.to_dict() for line in task.before],
            "after": [line.to_dict() for line in task.after],
            "sound": task.key,
            "translator": task.translator_key,
            "language": self._tools.options.language,
        }
        result = self._results.get("translate", inputs, make)
        return TranslatedLine.from_dict(read_json(result.folder / _FILE))

    def _fitted(self, task: FitTask) -> FittedLine | TranslatedLine:
        def make(folder: Path) -> None:
            with one_thread():
                made = fit_line(task.line, self._tools.voice(task.voice))
            write_json(folder / _FILE, None if made is None else made.to_dict())

        inputs: dict[str, JsonValue] = {"line": task.line.to_dict(), "voice": task.voice_key}
        found = read_json(self._results.get("fit", inputs, make).folder / _FILE)
        if found is None:
            return TranslatedLine(task.line.line, (), TOO_LONG)
        return FittedLine.from_dict(found)

    def _spoken(self, task: SpeakTask) -> Spoken:
        def make(folder: Path) -> None:
            tools = self._tools
            voice = tools.voice(task.voice)
            with one_thread():
                speak(task.line, voice, tools.recogniser, tools.options.language, folder)

        inputs: dict[str, JsonValue] = {
            "line": task.line.to_dict(),
            "voice": task.voice_key,
            "listener": task.listener_key,
            "language": self._tools.options.language,
        }
        folder = self._results.get("speak", inputs, make).folder
        return Spoken(read_spoken(folder), folder / VOICE_FILE)


def line_worker(settings: Settings, options: DubOptions, stages: Path) -> LineWorker:
    """A worker for a process of its own, which loads models of its own."""
    return Lines(Tools(Models(settings), options), Results(stages))
