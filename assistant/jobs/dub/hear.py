"""Hear: who says what when, in which language, in a recording that may hold several of them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import soundfile
from pydantic import JsonValue

from assistant.jobs.dub.lines import Record
from assistant.jobs.dub.regions import (
    DEFAULT_RULES,
    RegionRules,
    Span,
    find_regions,
    read_span,
    trimmed,
)
from assistant.jobs.dub.spoken_languages import settle
from audio.asr import RecogniseOptions, Recogniser, Window
from audio.asr_nbest import languages_of
from audio.asr_types import Word
from audio.features.reference import HOP
from audio.features.stream import WINDOW_FRAMES
from audio.pcm import SAMPLE_RATE, Samples, Sound
from audio.vad import SileroVad

_MARGIN = SAMPLE_RATE // 5  # sound around a region that the recogniser hears too
_JOIN_S, _LONGEST_S = 1.0, 28.0


@dataclass(frozen=True)
class HeardWord(Record):
    """A word with the marks and the space around it, in ms from the start of the source."""

    start_ms: int
    end_ms: int
    text: str
    probability: float


@dataclass(frozen=True)
class Region(Record):
    """A stretch of speech in one language, between pauses; words: what was understood."""

    start_ms: int
    end_ms: int
    language: str
    probability: float
    words: tuple[HeardWord, ...] = ()


@dataclass(frozen=True)
class Heard(Record):
    """All speech of a source, in order; a region without words was not understood."""

    duration_ms: int
    regions: tuple[Region, ...]


@dataclass(frozen=True)
class HearOptions:
    """language: of all the speech, None detects it region by region; beam_size: 1 is greedy."""

    language: str | None = None
    beam_size: int = 5
    rules: RegionRules = DEFAULT_RULES


#: Gives a piece of the work, known by what it is made from: as it was made before, or made now.
Keep = Callable[[Mapping[str, JsonValue], Callable[[], JsonValue]], Any]


def _make(_: Mapping[str, JsonValue], make: Callable[[], JsonValue]) -> Any:
    return make()


def hear(
    speech: Path,
    recogniser: Recogniser,
    vad: SileroVad,
    options: HearOptions | None = None,
    progress: Callable[[int], None] | None = None,
    keep: Keep = _make,
) -> Heard:
    """Recognise a 16 kHz mono file; only a region at a time is in memory.

    Args:
        speech: the file.
        recogniser: writes it down, and tells languages where it knows several.
        vad: finds the regions.
        options: see ``HearOptions``.
        progress: told the ms that are done; where languages are detected, a region counts half
            when its language is known.
        keep: keeps the language and the words of each region, so that who is interrupted does
            not begin anew.

    Regions of one language with short pauses between are recognised together, since a recogniser
    understands whole sentences better.
    """
    options = options or HearOptions()
    recogniser.check(RecogniseOptions(language=options.language))
    duration_ms = round(soundfile.info(speech).duration * 1000)
    spans = find_regions(speech, vad, options.rules)
    pieces = _Pieces(speech, recogniser, options, keep)
    tell = progress or _ignore
    if detect := options.language is None and recogniser.multilingual:
        found = []
        for span in spans:
            found.append(pieces.languages(span))
            tell(_ms(span.end) // 2)
        languages = settle(found, [span.samples / SAMPLE_RATE for span in spans])
    else:
        languages = [(options.language or "en", 1.0)] * len(spans)
    regions = [
        Region(*_edges(speech, span), *language)
        for span, language in zip(spans, languages, strict=True)
    ]
    heard: list[Region] = []
    for group in _groups(spans, regions):
        members = [regions[at] for at in group]
        whole = Span(spans[group[0]].start, spans[group[-1]].end)
        words = pieces.words(whole, members[0].language)
        heard += [_settled(region) for region in _dealt(members, words)]
        end_ms = members[-1].end_ms
        tell((duration_ms + end_ms) // 2 if detect else end_ms)
    return Heard(duration_ms, tuple(heard))


def _ignore(_: int) -> None:
    return None


@dataclass(frozen=True)
class _Pieces:
    """What is heard in parts of one recording; each is kept."""

    speech: Path
    recogniser: Recogniser
    options: HearOptions
    keep: Keep

    def languages(self, span: Span) -> Mapping[str, float]:
        """How likely each language is; measured on 27 clips of 1-4.5 s in nine, 22 were right."""

        def make() -> JsonValue:
            samples, _ = read_span(self.speech, span, _MARGIN)
            # Padded to 30 s: with less silence after it, more languages are mistaken.
            return dict(languages_of(self.recogniser, encoded(self.recogniser, samples, None)))

        found: Mapping[str, float] = self.keep({"languages": [span.start, span.end]}, make)
        return found

    def words(self, span: Span, language: str) -> list[HeardWord]:
        """The words of a part in one language."""
        beam_size = self.options.beam_size
        # Higher temperatures would draw lots, and no two runs would give the same words.
        options = RecogniseOptions(
            language=language, words=True, beam_size=beam_size, temperatures=(0.0,), tail_s=None
        )

        def make() -> JsonValue:
            samples, start = read_span(self.speech, span, _MARGIN)
            segments = self.recogniser.transcribe(Sound(samples), options).segments
            words = [word for segment in segments for word in segment.words]
            return [_heard_word(word, _ms(start)).to_dict() for word in words]

        name: Mapping[str, JsonValue] = {
            "words": [span.start, span.end],
            "language": language,
            "beam_size": beam_size,
        }
        return [HeardWord.from_dict(word) for word in self.keep(name, make)]


def _heard_word(word: Word, offset_ms: int) -> HeardWord:
    return HeardWord(
        offset_ms + round(word.start * 1000),
        offset_ms + round(word.end * 1000),
        word.text,
        round(word.probability, 4),
    )


def encoded(recogniser: Recogniser, samples: Samples, tail_s: float | None) -> Window:
    """Up to 30 s of sound encoded as one window."""
    features = recogniser.features()
    features.push(samples)
    frames = min(WINDOW_FRAMES, -(-len(samples) // HOP))
    return recogniser.encode(features.window(0, WINDOW_FRAMES), frames, tail_s)


def _edges(speech: Path, span: Span) -> tuple[int, int]:
    """When the sound of a region begins and ends, in ms: closer than the detector's blocks."""
    samples, offset = read_span(speech, span, _MARGIN)
    start, end = trimmed(samples, span.start - offset, span.end - offset)
    return _ms(offset + start), max(_ms(offset + start) + 1, _ms(offset + end))


def _groups(spans: Sequence[Span], regions: Sequence[Region]) -> Iterator[list[int]]:
    """Neighbours that are recognised together, as positions."""
    group: list[int] = [0] if spans else []
    for at, after in pairwise(range(len(spans))):
        pause_s = (spans[after].start - spans[at].end) / SAMPLE_RATE
        length_s = (spans[after].end - spans[group[0]].start) / SAMPLE_RATE
        same = regions[at].language == regions[after].language
        if same and pause_s < _JOIN_S and length_s <= _LONGEST_S:
            group.append(after)
            continue
        yield group
        group = [after]
    if group:
        yield group


def _dealt(regions: Sequence[Region], words: Sequence[HeardWord]) -> list[Region]:
    """The regions with the words whose middles lie in them, or nearest to them."""
    dealt: list[list[HeardWord]] = [[] for _ in regions]
    at = 0
    for word in words:
        middle = (word.start_ms + word.end_ms) / 2
        # Never back to an earlier region: words keep their order.
        while (
            at + 1 < len(regions) and middle > (regions[at].end_ms + regions[at + 1].start_ms) / 2
        ):
            at += 1
        dealt[at].append(word)
    return [replace(region, words=tuple(own)) for region, own in zip(regions, dealt, strict=True)]


def _settled(region: Region) -> Region:
    """Its words within it, first to last: Whisper's word times are rough beside a pause."""
    if not region.words:
        return region
    starts = [min(max(word.start_ms, region.start_ms), region.end_ms) for word in region.words]
    starts[0] = region.start_ms
    ends = [
        min(max(word.end_ms, start), after)
        for word, start, after in zip(
            region.words, starts, [*starts[1:], region.end_ms], strict=True
        )
    ]
    ends[-1] = region.end_ms
    words = (
        replace(word, start_ms=start, end_ms=end)
        for word, start, end in zip(region.words, starts, ends, strict=True)
    )
    return replace(region, words=tuple(words))


def _ms(samples: int) -> int:
    return round(samples * 1000 / SAMPLE_RATE)
