"""The first stages of a dub: what is said in a source, by whom, in which lines."""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import JsonValue

from assistant.errors import ConfigError, VoxsightError
from assistant.inputs import media_limits
from assistant.jobs.content import Result, Results, file_sha256, read_json, write_json
from assistant.jobs.dub.extract import SPEECH_FILE, extract, read_extracted
from assistant.jobs.dub.hear import Heard, HearOptions, hear
from assistant.jobs.dub.lines import Line
from assistant.jobs.dub.segment import segment
from assistant.jobs.dub.speakers import SpeakerOptions, Turn, diarise
from assistant.jobs.dub.tools import Tools, model_key

#: The recogniser of a dub; the settings' own knows English alone.
RECOGNISER = "whisper-base"


class Understanding:
    """One source on its way to lines; each stage is a result of its own."""

    def __init__(
        self,
        source: Path,
        sha256: str,
        tools: Tools,
        results: Results,
        tell: Callable[[str, int, int], None],
    ) -> None:
        self._source, self._sha256, self._tools = source, sha256, tools
        self._results, self._tell = results, tell
        self._key = model_key(tools.models.folder(tools.models.settings.recogniser))

    def extract(self) -> Result:
        """The sound of the source."""
        self._tell("extract", 0, 1)
        limits = media_limits(self._tools.models.settings)

        def make(folder: Path) -> None:
            extract(self._source, folder, limits)

        inputs: dict[str, JsonValue] = {"source": self._sha256, "limits": asdict(limits)}
        return self._results.get("extract", inputs, make)

    def _hear(self, extracted: Result) -> Heard:
        from audio.vad import SileroVad

        total = read_extracted(extracted.folder).duration_ms
        self._tell("transcribe", 0, total)
        settings = self._tools.models.settings
        options = HearOptions(language=self._tools.options.spoken)

        def keep(piece: Mapping[str, JsonValue], make: Callable[[], JsonValue]) -> Any:
            made_from: dict[str, JsonValue] = {
                "sound": extracted.key,
                "recogniser": self._key,
                "piece": dict(piece),
            }
            kept = self._results.get(
                "piece", made_from, lambda folder: write_json(folder / "piece.json", make())
            )
            return read_json(kept.folder / "piece.json")

        def make(folder: Path) -> None:
            self._check_recogniser()
            heard = hear(
                extracted.folder / SPEECH_FILE,
                self._tools.recogniser,
                SileroVad.load(),
                options,
                lambda done: self._tell("transcribe", done, total),
                keep,
            )
            write_json(folder / "heard.json", heard.to_dict())

        inputs: dict[str, JsonValue] = {
            "sound": extracted.key,
            "recogniser": self._key,
            "options": asdict(options),
        }
        result = self._results.get("transcribe", inputs, make)
        heard = Heard.from_dict(read_json(result.folder / "heard.json"))
        if not any(region.words for region in heard.regions):
            raise VoxsightError(
                f"No speech was understood in {self._source.name} with {settings.recogniser}, so "
                "there is nothing to dub."
            )
        return heard

    def _turns(self, extracted: Result) -> tuple[Turn, ...]:
        if self._tools.options.diarisation is None:
            return ()
        options = SpeakerOptions(self._tools.options.diarisation)

        def make(folder: Path) -> None:
            turns = diarise(extracted.folder / SPEECH_FILE, options)
            write_json(folder / "turns.json", [asdict(turn) for turn in turns])

        inputs: dict[str, JsonValue] = {
            "sound": extracted.key,
            "models": [file_sha256(file) for file in options.files()],
        }
        result = self._results.get("speakers", inputs, make)
        return tuple(Turn(**turn) for turn in read_json(result.folder / "turns.json"))

    def lines(self, extracted: Result) -> tuple[Line, ...]:
        """What is said in the extracted sound, and by whom, as lines."""
        heard = self._hear(extracted)
        self._tell("segment", 0, 1)
        turns = self._turns(extracted)

        def make(folder: Path) -> None:
            lines = segment(heard, turns)
            write_json(folder / "lines.json", [line.to_dict() for line in lines])

        inputs: dict[str, JsonValue] = {
            "heard": heard.to_dict(),
            "turns": [asdict(turn) for turn in turns],
        }
        result = self._results.get("segment", inputs, make)
        return tuple(Line.from_dict(line) for line in read_json(result.folder / "lines.json"))

    def _check_recogniser(self) -> None:
        models = self._tools.models
        if not models.recogniser.multilingual:
            raise ConfigError(
                f"Dubbing needs a recogniser of many languages, such as {RECOGNISER}; "
                f"{models.settings.recogniser} knows only English."
            )
