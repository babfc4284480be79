"""A transcript as plain text, SRT, WebVTT or JSON."""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import inf

from pysubs2 import SSAEvent, SSAFile

from audio.asr_types import Segment, Transcript, Word
from audio.errors import AudioError

LINE_LENGTH = 42
LINES = 2
# A backslash that begins one of SubStation's signs for a space, a line break or a drawing.
_BREAK = re.compile(r"\\(?=[Nnhp])")
# A cue does not run through a pause this long, where word times tell of it.
_PAUSE_S = 1.0


@dataclass(frozen=True)
class Cue:
    """One subtitle; times in whole ms, so that no rounding can make two overlap."""

    start_ms: int
    end_ms: int
    lines: tuple[str, ...]


def to_text(transcript: Transcript) -> str:
    """One line per segment."""
    return "".join(f"{segment.text}\n" for segment in transcript.segments)


def to_srt(transcript: Transcript) -> str:
    """SubRip: numbered cues of at most two lines of 42 characters."""
    return _written("srt", cues(transcript), _srt_text)


def to_vtt(transcript: Transcript) -> str:
    """WebVTT (W3C): the same cues, numbered too, with ``&``, ``<`` and ``>`` escaped."""
    return _written("vtt", cues(transcript), _vtt_text)


def to_json(transcript: Transcript) -> str:
    """JSON with stable keys: the transcript, its segments, and their words where there are any."""
    return json.dumps(to_dict(transcript), ensure_ascii=False, indent=2) + "\n"


def to_dict(transcript: Transcript) -> dict[str, object]:
    """What ``to_json`` writes, as plain values; times in s."""
    return {
        "text": transcript.text,
        "language": transcript.language,
        "language_probability": round(transcript.language_probability, 4),
        "duration_s": round(transcript.duration_s, 3),
        "segments": [
            {
                "start": round(segment.start, 3),
                "end": round(segment.end, 3),
                "text": segment.text,
                "avg_logprob": round(segment.avg_logprob, 4),
                "no_speech_prob": round(segment.no_speech_prob, 4),
                "words": [
                    {
                        "start": round(word.start, 3),
                        "end": round(word.end, 3),
                        "text": word.text.strip(),
                        "probability": round(word.probability, 4),
                    }
                    for word in segment.words
                ],
            }
            for segment in transcript.segments
        ],
    }


def cues(transcript: Transcript) -> list[Cue]:
    """The subtitles in order: none overlaps the next, none is empty.

    A segment too long for one cue is split at word times, or, without them, its time is shared
    out by the length of the text. ``AudioError`` if the transcript's own times run backwards.
    """
    check_times(transcript)
    pieces = [piece for segment in transcript.segments for piece in _split(segment)]
    made: list[Cue] = []
    for i, (start, end, lines) in enumerate(pieces):
        begin = max(round(start * 1000), made[-1].end_ms if made else 0)
        limit = round(pieces[i + 1][0] * 1000) if i + 1 < len(pieces) else None
        # A cue that lasts no time is never shown, so it gets 1 ms even where it must push on.
        finish = max(
            round(end * 1000) if limit is None else min(round(end * 1000), limit), begin + 1
        )
        made.append(Cue(begin, finish, lines))
    return made


def check_times(transcript: Transcript) -> None:
    """Refuse a transcript whose segments or words overlap or run backwards."""
    last = 0.0
    for segment in transcript.segments:
        if not last - 0.0005 <= segment.start <= segment.end:
            raise AudioError(
                f"expected segments in order without overlap, got {segment.start:.3f} to "
                f"{segment.end:.3f} s after one that ends at {last:.3f} s"
            )
        last = segment.end
        said = segment.start
        for word in segment.words:
            if not said - 0.0005 <= word.start <= word.end <= segment.end + 0.0005:
                raise AudioError(
                    f"expected words in order within their segment, got {word.text!r} at "
                    f"{word.start:.3f} to {word.end:.3f} s"
                )
            said = word.end


_Piece = tuple[float, float, tuple[str, ...]]


def _split(segment: Segment) -> Iterator[_Piece]:
    """A segment as pieces that fit one cue each: (start s, end s, lines)."""
    if not segment.text.strip():
        return
    whole = Word(segment.start, segment.end, " " + segment.text.strip(), 1.0)
    words = [part for word in segment.words or (whole,) for part in _parts(word)]
    begin = 0
    for i in range(1, len(words) + 1):
        if i == len(words) or words[i].start - words[i - 1].end >= _PAUSE_S:
            yield from map(_piece, _groups(words[begin:i]))
            begin = i


def _groups(words: Sequence[Word]) -> list[list[Word]]:
    """As few groups that fit a cue as can be, of about even length where that is possible."""
    fewest = _fill(words, inf)
    even = _fill(words, len(_joined(words)) / len(fewest))
    return even if len(even) == len(fewest) else fewest


def _fill(words: Sequence[Word], enough: float) -> list[list[Word]]:
    """Groups that each end where the next word would not fit, or once they are long enough."""
    groups: list[list[Word]] = []
    for word in words:
        if (
            groups
            and len(_joined(groups[-1])) + len(word.text) / 2 < enough
            and _wrap(_joined([*groups[-1], word])) is not None
        ):
            groups[-1].append(word)
        else:
            groups.append([word])
    return groups


def _piece(words: Sequence[Word]) -> _Piece:
    lines = _wrap(_joined(words))
    assert lines is not None  # no part is longer than a line
    return words[0].start, words[-1].end, lines


def _joined(words: Sequence[Word]) -> str:
    return " ".join("".join(word.text for word in words).split())


def _parts(word: Word) -> Iterator[Word]:
    """Parts without spaces, none longer than a line, timed by their share of the text."""
    texts = [
        (" " if i == 0 and (word.text.startswith(" ") or begun) else "") + run[i : i + LINE_LENGTH]
        for begun, run in enumerate(word.text.split())
        for i in range(0, len(run), LINE_LENGTH)
    ]
    total = sum(map(len, texts))
    length = word.end - word.start
    done = 0
    for text in texts:
        start = word.start + length * done / total
        done += len(text)
        yield Word(start, word.start + length * done / total, text, word.probability)


def _wrap(text: str) -> tuple[str, ...] | None:
    """At most two lines of at most 42 characters, as even as can be; None if it does not fit.

    Text without spaces (Chinese, Japanese) may be broken anywhere.
    """
    if len(text) <= LINE_LENGTH:
        return (text,)
    breaks = [i for i, character in enumerate(text) if character == " "]
    fitting = [i for i in breaks if i <= LINE_LENGTH and len(text) - i - 1 <= LINE_LENGTH]
    if fitting:
        middle = min(fitting, key=lambda i: abs(2 * i - len(text)))
        return text[:middle], text[middle + 1 :]
    if len(text) <= LINES * LINE_LENGTH and " " not in text:
        half = (len(text) + 1) // 2
        return text[:half], text[half:]
    return None


def _written(form: str, shown: Sequence[Cue], escaped: Callable[[str], str]) -> str:
    """The cues in a format of pysubs2, which holds texts in that of SubStation."""
    subtitles = SSAFile()
    for cue in shown:
        text = "\n".join(escaped(line) for line in cue.lines)
        subtitles.append(SSAEvent(cue.start_ms, cue.end_ms, _substation_text(text)))
    # Braces would else be taken for SubStation's tags, and left out.
    return subtitles.to_string(form, keep_ssa_tags=True)


def _substation_text(text: str) -> str:
    """Line breaks as SubStation has them; a backslash of the text's own must not make one."""
    return _BREAK.sub("\\\\\N{WORD JOINER}", text).replace("\n", r"\N")


def _srt_text(line: str) -> str:
    """SubRip has no escapes; an arrow in the text would be read as a time line."""
    return line.replace("-->", "→")


def _vtt_text(line: str) -> str:
    return line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
