"""Subtitles of a dub, timed by the words of the new voice, not of the old one."""

from collections.abc import Sequence

from assistant.jobs.dub.lines import SpokenLine
from audio.asr_types import Segment, Transcript, Word
from audio.subtitles import Cue, cues, to_srt, to_vtt

__all__ = ["Cue", "cues", "to_srt", "to_vtt", "transcript_of"]


def transcript_of(lines: Sequence[SpokenLine], language: str) -> Transcript:
    """What the dub says, a segment for each line with its words; for ``to_srt`` and ``to_vtt``.

    Where a line runs into the next one, its words end where that begins.
    """
    ordered = sorted(lines, key=lambda line: line.start_ms)
    limits = [line.start_ms for line in ordered[1:]] + [line.end_ms for line in ordered[-1:]]
    segments = tuple(_segment(line, limit) for line, limit in zip(ordered, limits, strict=True))
    return Transcript(
        text=" ".join(segment.text for segment in segments),
        language=language,
        language_probability=1.0,
        duration_s=max((segment.end for segment in segments), default=0.0),
        segments=segments,
    )


def _segment(line: SpokenLine, limit_ms: int) -> Segment:
    end = max(line.start_ms, min(line.end_ms, limit_ms))
    words = tuple(
        Word(min(start, end) / 1000, min(stop, end) / 1000, f" {text}", 1.0)
        for text, start, stop in line.words
    )
    return Segment(line.start_ms / 1000, end / 1000, line.fitted.wording, words)
