"""Who speaks: speakers told apart by sherpa-onnx, where its models are given; else one speaker."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from string import ascii_uppercase
from typing import Any

import soundfile

from assistant.errors import ConfigError
from audio.pcm import SAMPLE_RATE

#: Who speaks where nobody tells speakers apart.
ONE_SPEAKER = "A"
_SEGMENTATION = ("segmentation.onnx", "model.onnx")
_EMBEDDING = "embedding.onnx"
_LONGEST_S = 3 * 3600.0  # the whole sound is in memory: 700 MB


@dataclass(frozen=True)
class Turn:
    """A stretch of speech of one speaker, by number; times in ms. Turns may overlap."""

    start_ms: int
    end_ms: int
    speaker: int


@dataclass(frozen=True)
class SpeakerOptions:
    """folder: holds segmentation.onnx (a pyannote segmentation model as sherpa-onnx has it; its
    own name model.onnx will do) and embedding.onnx (a speaker embedding model); speakers: how
    many there are, None to find out; threshold: two voices farther apart are two speakers.
    """

    folder: Path
    speakers: int | None = None
    threshold: float = 0.5
    threads: int = 1

    def __post_init__(self) -> None:
        if self.speakers is not None and self.speakers < 1:
            raise ConfigError(f"Expected 1 or more speakers, got {self.speakers}.")
        if not 0 < self.threshold < 2:
            raise ConfigError(
                f"Expected a threshold between 0 and 2 for telling speakers apart, "
                f"got {self.threshold:g}."
            )
        if self.threads < 1:
            raise ConfigError(f"Expected 1 or more threads, got {self.threads}.")

    def files(self) -> tuple[Path, Path]:
        """The two model files. Raises ConfigError if one is missing."""
        found = [self.folder / name for name in _SEGMENTATION if (self.folder / name).is_file()]
        embedding = self.folder / _EMBEDDING
        if not found or not embedding.is_file():
            raise ConfigError(
                f"Telling speakers apart needs {_SEGMENTATION[0]} and {_EMBEDDING} in "
                f"{self.folder}; take a speaker segmentation and a speaker embedding model from "
                "the releases of k2-fsa/sherpa-onnx, or dub with one speaker."
            )
        return found[0], embedding


def diarise(speech: Path, options: SpeakerOptions) -> tuple[Turn, ...]:
    """Turns in a 16 kHz mono file, by start.

    Raises ConfigError if sherpa-onnx or a model is missing or a model cannot be loaded.
    """
    config = diarisation_config(options)
    length_s = soundfile.info(speech).duration
    if length_s > _LONGEST_S:
        raise ConfigError(
            f"Speakers are told apart in up to {_LONGEST_S / 3600:g} h of sound, this has "
            f"{length_s / 3600:.1f} h; cut it into parts, or dub with one speaker."
        )
    sherpa = _sherpa()
    try:
        diarisation = sherpa.OfflineSpeakerDiarization(config)
    except RuntimeError as error:
        raise ConfigError(f"Cannot load the models in {options.folder}: {error}.") from None
    if diarisation.sample_rate != SAMPLE_RATE:
        raise ConfigError(
            f"Expected speaker models for {SAMPLE_RATE} Hz in {options.folder}, got ones for "
            f"{diarisation.sample_rate} Hz."
        )
    samples, _ = soundfile.read(speech, dtype="float32")
    return turns_of(diarisation.process(samples))


def diarisation_config(options: SpeakerOptions) -> Any:
    """sherpa-onnx's configuration. Raises ConfigError if a file or the package is missing."""
    segmentation, embedding = options.files()
    sherpa = _sherpa()
    config = sherpa.OfflineSpeakerDiarizationConfig(
        segmentation=sherpa.OfflineSpeakerSegmentationModelConfig(
            pyannote=sherpa.OfflineSpeakerSegmentationPyannoteModelConfig(model=str(segmentation)),
            num_threads=options.threads,
        ),
        embedding=sherpa.SpeakerEmbeddingExtractorConfig(
            model=str(embedding), num_threads=options.threads
        ),
        clustering=sherpa.FastClusteringConfig(
            num_clusters=options.speakers or -1, threshold=options.threshold
        ),
    )
    if not config.validate():
        raise ConfigError(f"sherpa-onnx refuses the speaker models in {options.folder}.")
    return config


def turns_of(result: Any) -> tuple[Turn, ...]:
    """The turns of an ``OfflineSpeakerDiarizationResult``."""
    return tuple(
        Turn(round(part.start * 1000), round(part.end * 1000), int(part.speaker))
        for part in result.sort_by_start_time()
    )


def assign_speakers(spans: Sequence[tuple[int, int]], turns: Sequence[Turn]) -> list[str]:
    """The speaker of each span (start, end in ms): who speaks longest in it, else the nearest.

    Named A, B, C, ... in the order in which they appear.
    """
    if not turns:
        return [ONE_SPEAKER] * len(spans)
    numbers = [_speaker_of(span, turns) for span in spans]
    order = list(dict.fromkeys(numbers))
    return [_name(order.index(number)) for number in numbers]


def _speaker_of(span: tuple[int, int], turns: Sequence[Turn]) -> int:
    start, end = span
    shared: dict[int, int] = {}
    for turn in turns:
        overlap = min(end, turn.end_ms) - max(start, turn.start_ms)
        if overlap > 0:
            shared[turn.speaker] = shared.get(turn.speaker, 0) + overlap
    if shared:
        return max(shared, key=lambda speaker: shared[speaker])
    nearest = min(turns, key=lambda turn: max(turn.start_ms - end, start - turn.end_ms))
    return nearest.speaker


def _name(at: int) -> str:
    """A ... Z, then A2 ... Z2 and so on."""
    round_, letter = divmod(at, len(ascii_uppercase))
    return ascii_uppercase[letter] + (str(round_ + 1) if round_ else "")


def _sherpa() -> Any:
    try:
        return import_module("sherpa_onnx")
    except ImportError:
        raise ConfigError(
            "Telling speakers apart needs the package sherpa-onnx; run `pip install sherpa-onnx`."
        ) from None
