"""Times many sounds through one recogniser against faster-whisper's batched pipeline."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from assistant.bench.timing import REST_S, interleaved
from assistant.errors import ConfigError
from assistant.evals.asr import Recording, read_transcripts, score
from audio.asr import Recogniser
from audio.asr_batch import BatchOptions, transcribe_many
from audio.media import read_sound
from audio.pcm import SAMPLE_RATE, Sound, join, silence
from audio.vad import SileroVad

_PAUSES_S = (0.3, 2.0)
_TURNS = (1, 12)  # recordings that are joined to one file
_PEERS_BATCH = 8  # its default
_COMPUTE_TYPE = "int8"


@dataclass(frozen=True)
class Spoken:
    """A sound at 16 kHz and what is said in it."""

    sound: Sound
    text: str


@dataclass(frozen=True)
class Heard:
    """Median ``seconds`` for so much sound, and the word error rate of what was written."""

    seconds: float
    wer: float


@dataclass(frozen=True)
class BatchReport:
    """Ours and the batched pipeline's, on one long recording and on the same as many files."""

    model: str
    beam: int
    threads: int
    words: bool
    audio_s: float
    files: int
    ours: Heard
    theirs: Heard
    ours_files: Heard
    theirs_files: Heard

    def summary(self) -> dict[str, Any]:
        """The figures by name; the ratios are its time over ours."""
        return {
            "vs_batched_pipeline": round(self.theirs.seconds / self.ours.seconds, 2),
            "wer": round(self.ours.wer, 4),
            "wer_batched_pipeline": round(self.theirs.wer, 4),
            "audio_seconds_per_second": round(self.audio_s / self.ours.seconds, 1),
            "vs_batched_pipeline_files": round(
                self.theirs_files.seconds / self.ours_files.seconds, 2
            ),
            "wer_files": round(self.ours_files.wer, 4),
            "wer_batched_pipeline_files": round(self.theirs_files.wer, 4),
            "audio_seconds_per_second_files": round(self.audio_s / self.ours_files.seconds, 1),
            "model": self.model,
            "beam": self.beam,
            "threads": self.threads,
            "words": self.words,
            "audio_s": round(self.audio_s, 1),
            "files": self.files,
        }


def measure_batch(
    data: Path,
    folder: Path,
    *,
    beam: int = 1,
    threads: int = 2,
    seconds: float = 600.0,
    rounds: int = 3,
    words: bool = True,
    progress: Callable[[int], None] | None = None,
) -> BatchReport:
    """Recognise at least ``seconds`` of real speech both ways, in turn, and count word errors.

    Both have the same model in int8, the same beam and language, as many threads in all, and word
    times where ``words`` says so; the rest is as either has it by default.

    Args:
        data: a folder of recordings of one language with their ``transcripts.tsv``; they are
            joined in a random but fixed order, with repetition, and pauses of 0.3 to 2 s.
        folder: a CTranslate2 Whisper model.
        beam: hypotheses kept; 1 is greedy.
        threads: for either.
        seconds: sound to recognise, as one recording and again as files of varied length.
        rounds: values for each median.
        words: whether both find the times of words.
        progress: told 1 after each of ``steps(rounds)`` steps.
    """
    recordings = read_transcripts(data)
    language = _language(recordings)
    spoken = speak(recordings, seconds)
    whole = [joined(spoken)]
    ours = _ours(folder, language, beam, threads, words)
    theirs = _theirs(folder, language, beam, threads, words)
    cases = {
        "ours": partial(ours, whole),
        "theirs": partial(theirs, whole),
        "ours_files": partial(ours, spoken),
        "theirs_files": partial(theirs, spoken),
    }
    texts: dict[str, list[str]] = {}

    def keep(name: str, call: Callable[[], list[str]]) -> None:
        texts[name] = call()

    times = interleaved(
        {name: partial(keep, name, call) for name, call in cases.items()},
        rounds,
        rest_s=REST_S,
        progress=progress,
    )
    parts = {"ours": whole, "theirs": whole, "ours_files": spoken, "theirs_files": spoken}
    return BatchReport(
        model=folder.name,
        beam=beam,
        threads=threads,
        words=words,
        audio_s=whole[0].sound.duration_s,
        files=len(spoken),
        **{name: Heard(times[name], _wer(parts[name], texts[name], language)) for name in cases},
    )


def steps(rounds: int) -> int:
    """How often ``measure_batch`` tells its progress."""
    return rounds + 1


def speak(recordings: Sequence[Recording], seconds: float, seed: int = 0) -> list[Spoken]:
    """Files of one to a dozen recordings with pauses after each; at least ``seconds`` in all."""
    chance = random.Random(seed)
    sounds = {recording.path: read_sound(recording.path) for recording in recordings}
    files: list[Spoken] = []
    order: list[Recording] = []
    while sum(file.sound.duration_s for file in files) < seconds:
        turns: list[Recording] = []
        for _ in range(chance.randint(*_TURNS)):
            if not order:
                order = chance.sample(list(recordings), len(recordings))
            turns.append(order.pop())
        parts = [
            part
            for turn in turns
            for part in (sounds[turn.path], silence(chance.uniform(*_PAUSES_S), SAMPLE_RATE))
        ]
        files.append(Spoken(join(parts), " ".join(turn.text for turn in turns)))
    return files


def joined(files: Sequence[Spoken]) -> Spoken:
    """One file after the other as one recording."""
    return Spoken(join([file.sound for file in files]), " ".join(file.text for file in files))


def _language(recordings: Sequence[Recording]) -> str:
    languages = sorted({recording.language for recording in recordings})
    if len(languages) != 1:
        raise ConfigError(
            f"expected recordings of one language to join, got {', '.join(languages)}; "
            "give a folder with one of them"
        )
    return languages[0]


def _wer(files: Sequence[Spoken], texts: Sequence[str], language: str) -> float:
    scores = [score(file.text, text, language) for file, text in zip(files, texts, strict=True)]
    return sum(errors for errors, _ in scores) / max(1, sum(words for _, words in scores))


def _ours(
    folder: Path, language: str, beam: int, threads: int, words: bool
) -> Callable[[Sequence[Spoken]], list[str]]:
    recogniser = Recogniser.load(folder, threads=1, workers=threads, compute_type=_COMPUTE_TYPE)
    options = BatchOptions(language=language, beam_size=beam, words=words)
    vad = SileroVad.load()

    def recognise(files: Sequence[Spoken]) -> list[str]:
        heard = transcribe_many(recogniser, [file.sound for file in files], options, vad=vad)
        return [transcript.text for transcript in heard]

    return recognise


def _theirs(
    folder: Path, language: str, beam: int, threads: int, words: bool
) -> Callable[[Sequence[Spoken]], list[str]]:
    from faster_whisper import BatchedInferencePipeline, WhisperModel

    model = WhisperModel(str(folder), device="cpu", compute_type=_COMPUTE_TYPE, cpu_threads=threads)
    pipeline = BatchedInferencePipeline(model)

    def recognise_one(file: Spoken) -> str:
        segments, _ = pipeline.transcribe(
            file.sound.samples,
            language=language,
            beam_size=beam,
            word_timestamps=words,
            batch_size=_PEERS_BATCH,
        )
        return " ".join(segment.text for segment in segments)

    return lambda files: [recognise_one(file) for file in files]
