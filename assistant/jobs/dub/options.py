"""What a user may choose about a dub, and where it goes: checked once, before hours of work."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

from assistant.errors import ConfigError, VoxsightError
from assistant.jobs.dub.mix import MixOptions
from assistant.jobs.dub.mux import CONTAINERS, default_suffix
from assistant.jobs.files import ENDINGS

#: What the embedded recogniser translates into, and the embedded voice speaks.
EMBEDDED_LANGUAGE = "en"
_MIX = MixOptions()


@dataclass(frozen=True)
class DubOptions:
    """How to dub.

    language: code of the language of the dub; spoken: of the original, None detects it for each
    stretch of speech; mix: what becomes of the original sound; voices: names or folders, the
    settings' own when there are none; speaker_voices: pairs of a speaker and a voice; translator:
    name, folder or hub:NAME of a translation model or a chat model, None for the recogniser itself,
    which knows English; separator: weights of torchaudio's hdemucs_high, to keep the beds;
    diarisation: folder of the models that tell speakers apart; edits: a lines.json that a person
    corrected.
    """

    language: str = EMBEDDED_LANGUAGE
    spoken: str | None = None
    mix: MixOptions = _MIX
    voices: tuple[str, ...] = ()
    speaker_voices: tuple[tuple[str, str], ...] = ()
    translator: str | None = None
    separator: Path | None = None
    diarisation: Path | None = None
    edits: Path | None = None

    def __post_init__(self) -> None:
        missing = [] if self.translator else ["a translation model (--translator)"]
        missing += [] if self.voices else ["a voice (--voice)"]
        if self.language != EMBEDDED_LANGUAGE and missing:
            raise ConfigError(
                f"Into {self.language!r} a dub needs {' and '.join(missing)} that knows it; what "
                "is built in translates into and speaks 'en'."
            )
        if self.mix.original == "keep-beds" and self.separator is None:
            raise ConfigError(
                "To keep the beds, the voices must be told from the rest: name the weights of "
                "torchaudio's hdemucs_high (--separator), or choose duck or remove."
            )


@dataclass(frozen=True)
class Place:
    """Where a dub goes: its file, and beside it the folder of its job."""

    out: Path

    @property
    def folder(self) -> Path:
        """Holds the report, the lines, the picture and the stages."""
        return self.out.with_name(f"{self.out.name}.dub")

    @property
    def stages(self) -> Path:
        """Results of stages; a job that goes on finds them here."""
        return self.folder / "stages"


def dub_name(source: Path, language: str) -> str:
    """What the dub of a file is called: film.en.mp4 for film.mp4.

    A dub in another container keeps the ending, as in film.avi.en.mkv: film.mkv may be there, too.
    """
    suffix = default_suffix(source)
    stem = source.stem if source.suffix.lower() == suffix else source.name
    return f"{stem}.{language}{suffix}"


def place_of(source: Path, out: Path, language: str) -> Place:
    """The place of a dub: ``out`` itself if it ends as a file that can be written, else in it.

    Raises:
        ConfigError: the name's ending is none that can be written, or it would be the source.
        VoxsightError: the folder cannot be written.
    """
    suffix = out.suffix.lower()
    if suffix not in CONTAINERS or out.is_dir():
        if suffix in ENDINGS | {".avi"} and not out.is_dir():
            raise ConfigError(
                f"Expected a folder or a name that ends in {', '.join(CONTAINERS)}, got {out.name}."
            )
        out = out / dub_name(source, language)
    if out.resolve() == source.resolve():
        raise ConfigError(f"The dub would replace its source {source.name}; name another file.")
    place = Place(out)
    try:
        place.stages.mkdir(parents=True, exist_ok=True)
        for folder in (place.out.parent, place.folder):
            with tempfile.TemporaryFile(dir=folder):
                pass
    except OSError as error:
        raise VoxsightError(
            f"Cannot write the dub {place.out}: {error.strerror}; name another place (-o)."
        ) from None
    return place
