"""Measures a conversation: silence before answers, interruptions, words that stay, memory."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assistant.answering import Workers
from assistant.bench.voice import NOT_RUN
from assistant.errors import ConfigError
from assistant.evals.asr import Recording, read_transcripts
from assistant.live import live_parts
from assistant.loading import Models
from assistant.session import Parts, SessionConfig
from audio.asr_types import RecogniseOptions
from audio.media import read_sound
from audio.pcm import Samples, Sound

if TYPE_CHECKING:
    from fusion.decoder import Decoder

#: What a report always names.
KEYS = (
    "first_sound_ms_median",
    "vs_sequential",
    "final_transcript_vs_whole",
    "streaming_wer",
    "whole_wer",
    "commits_changed",
    "first_sound_vs_piper",
    "chunked_max_abs",
    "second_turn_ttft_vs_generate",
    "stop_ms_max",
    "history_word_error_max",
    "backchannel_cuts",
    "missed_interruptions",
)
Figures = dict[str, float]
Progress = Callable[[str], None]

_STOPS = tuple(0.256 * number for number in range(1, 9))  # s of a reply
_TRIALS = 48
_MINUTES = 10
_ROUNDS = 5
_VOICE_ROUNDS = 15  # of a tenth of a second: a short disturbance is long beside it


@dataclass(frozen=True)
class TalkReport:
    """What was measured, by name; ratios are a peer's time over ours."""

    figures: Mapping[str, float]

    def summary(self) -> dict[str, Any]:
        """The report for one line of JSON: all of ``KEYS``, then whatever else was measured."""
        measured = {name: float(f"{value:.4g}") for name, value in self.figures.items()}
        return {key: measured.get(key, NOT_RUN) for key in KEYS} | measured


@dataclass(frozen=True)
class Bench:
    """What the parts of the benchmark share; the models are loaded when the first one asks."""

    data: Path
    models: Models
    workers: Workers
    progress: Progress

    @cached_property
    def recordings(self) -> list[Recording]:
        """The English recordings of the data folder."""
        return [each for each in read_transcripts(self.data) if each.language == "en"]

    @cached_property
    def sounds(self) -> list[Samples]:
        """The recordings' samples."""
        return [read_sound(each.path).samples for each in self.recordings]

    @cached_property
    def parts(self) -> Parts:
        """The parts of a session."""
        return live_parts(self.models, self.workers, language="en")

    @cached_property
    def voice_file(self) -> Path:
        """The voice as it is published."""
        return next(self.models.folder(self.models.settings.voice).glob("*.onnx"))

    @cached_property
    def reference(self) -> "Decoder":
        """The language model in transformers, as it is published."""
        from fusion.decoder import Decoder

        self.progress("loading the language model again")
        settings = self.models.settings
        plain = Models(settings.model_copy(update={"quantization": "none"}), remark=self.progress)
        return Decoder.load(plain.language_model_folder(), threads=settings.threads)

    @cached_property
    def faster_whisper(self) -> Callable[[Samples], str]:
        """One call of the recogniser in faster-whisper."""
        from assistant.bench.talk_hearing import faster_whisper

        settings = self.models.settings
        folder = self.models.folder(settings.recogniser)
        return faster_whisper(folder, settings.threads, settings.recogniser_beam)


def first_sound(bench: Bench) -> Figures:
    """The silence between a question and the first sound of its answer, in real time."""
    from assistant.bench.talk_answer import measure_first_sound
    from assistant.bench.talk_sequential import own_loop, published_loop
    from assistant.evals.piper import piper_session

    models, longest = bench.models, SessionConfig().max_answer_tokens
    piper = piper_session(bench.voice_file, models.settings.threads)
    published = published_loop(models, bench.faster_whisper, bench.reference, piper, longest)
    own = own_loop(models, longest)
    return measure_first_sound(bench.parts, published, own, bench.sounds, bench.progress)


def words(bench: Bench) -> Figures:
    """Word errors, changed commits and the time to the final transcript."""
    from assistant.bench.talk_hearing import error_rate, measure_words

    models, peer = bench.models, bench.faster_whisper
    figures = measure_words(bench.parts, bench.recordings, bench.sounds, peer, bench.progress)
    bench.progress("words, whole recordings")
    options = RecogniseOptions(language="en", beam_size=models.settings.recogniser_beam)
    texts = [models.recogniser.transcribe(Sound(each), options).text for each in bench.sounds]
    return figures | {"whole_wer": error_rate(texts, bench.recordings)}


def voice(bench: Bench) -> Figures:
    """The first sound of a long sentence against Piper, and streamed samples against whole."""
    from assistant.bench.voice import measure_voice

    models = bench.models
    bench.progress("voice")
    summary = measure_voice(
        models.voice,
        bench.voice_file,
        threads=(models.settings.threads,),
        rounds=_VOICE_ROUNDS,
    ).summary()
    return {key: summary[key] for key in ("first_sound_vs_piper", "chunked_max_abs")}


def second_turn(bench: Bench) -> Figures:
    """The first token of a turn after a history, against transformers from scratch."""
    from assistant.bench.talk_answer import measure_second_turn

    reference = bench.reference
    bench.progress("second turn")
    return measure_second_turn(bench.parts, reference, rounds=_ROUNDS)


def stops(bench: Bench) -> Figures:
    """How late the last sound of a reply comes after it was stopped."""
    from assistant.bench import talk_overlap as overlap
    from assistant.bench.talk_conversations import LONG_REPLY

    bench.progress("stops")
    delays = overlap.stop_delays(overlap.with_answer(bench.parts, LONG_REPLY), _STOPS)
    return {"stop_ms_max": 1000 * max(delays)}


def history(bench: Bench) -> Figures:
    """Words that the conversation remembers of a reply against words played."""
    from assistant.bench import talk_overlap as overlap
    from assistant.bench.talk_conversations import SHORT_REPLY

    bench.progress("history")
    parts = overlap.prepared(bench.parts, SHORT_REPLY)
    sound = overlap.spoken(parts.tongue.voice, SHORT_REPLY)
    middles = overlap.aligned(bench.models.recogniser, sound, SHORT_REPLY)
    errors = overlap.history_errors(parts, middles)
    return {"history_word_error_max": max(errors), "history_cut_points": len(errors)}


def interruptions(bench: Bench) -> Figures:
    """Backchannels that cut a reply, and interruptions that do not."""
    from assistant.bench import talk_conversations as conversations
    from assistant.bench import talk_overlap as overlap

    parts, speaker = overlap.prepared(bench.parts, conversations.LONG_REPLY), bench.models.voice
    agreeing = list(conversations.backchannels(speaker, _TRIALS))
    interrupting = list(conversations.interruptions(speaker, bench.sounds, _TRIALS))
    return overlap.overlap_figures(
        overlap.overlaps(parts, agreeing, lambda what: bench.progress(f"backchannel {what}")),
        overlap.overlaps(parts, interrupting, lambda what: bench.progress(f"interruption {what}")),
    )


def monologue(bench: Bench) -> Figures:
    """What the last of ten minutes on end costs beside the first."""
    from assistant.bench.talk_hearing import measure_monologue, minute_of

    minute = minute_of(bench.sounds)
    return measure_monologue(bench.parts, minute, _MINUTES, bench.progress).figures()


#: The parts of the benchmark by name, in the order in which they run.
PARTS: Mapping[str, Callable[[Bench], Figures]] = {
    part.__name__: part
    for part in (
        *(first_sound, words, voice, second_turn),
        *(stops, history, interruptions, monologue),
    )
}


def measure_talk(
    data: Path,
    models: Models,
    *,
    only: Collection[str] = tuple(PARTS),
    progress: Progress = lambda _: None,
) -> TalkReport:
    """Hold conversations with the settings' models, and measure them.

    Args:
        data: a folder of recordings with ``transcripts.tsv``.
        models: the models of the conversations.
        only: names out of ``PARTS``; all of them take some minutes.
        progress: told in words what is being done.
    """
    unknown = sorted(set(only) - set(PARTS))
    if unknown:
        raise ConfigError(f"Expected parts out of {', '.join(PARTS)}, got {unknown[0]}.")
    workers = Workers.start()
    try:
        bench = Bench(data, models, workers, progress)
        return TalkReport(merged([PARTS[name](bench) for name in PARTS if name in only]))
    finally:
        workers.close()


def merged(parts: Sequence[Figures]) -> Figures:
    """All figures; what several parts have counted is summed."""
    figures: Figures = {}
    for part in parts:
        for name, value in part.items():
            figures[name] = figures.get(name, 0) + value
    return figures
