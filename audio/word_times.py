"""When each word was said: Whisper's cross-attention, aligned by dynamic time warping."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from audio.asr_types import Segment, Word
from audio.whisper_tokens import TokenWord, WhisperTokens

_SECONDS_PER_STEP = 0.02  # one position of the encoder
_SENTENCE_ENDS = frozenset(".。!！?？")
# The warp gives the silence around a pause to a word beside it. A word near a pause is therefore
# taken to last at most twice the median of its window, and that median at most 0.7 s.
_LONGEST_MEDIAN_S = 0.7
_LONGEST_WORD = 2.0


def add_word_times(
    model: Any,
    encoded: Any,
    segments: Sequence[Segment],
    tokens: WhisperTokens,
    *,
    start: list[int],
    language: str,
    offset_s: float,
    frames: int,
    previous_end_s: float,
) -> list[Segment]:
    """The segments of one window with their words.

    ``encoded`` (1, steps, d) is the window, which begins at ``offset_s`` and holds ``frames``
    feature frames of sound; ``previous_end_s`` is when the speech before it ended. The median
    filter over the attention (width 7) and the warp are CTranslate2's.
    """
    text_tokens = [tokens.text_tokens(segment.tokens) for segment in segments]
    joined = [token for part in text_tokens for token in part]
    if not joined:
        return list(segments)
    result = model.align(encoded, start, [joined], max(frames, 2), median_filter_width=7)[0]
    # (tokens + 1,) times at which each token begins; the last is where the text ends.
    bounds_s = _token_times(result.alignments, len(joined))
    probabilities = np.asarray(result.text_token_probs)
    timed: list[Segment] = []
    spoken_s: list[float] = []  # where each word ends without the marks after it
    at = 0
    for segment, part in zip(segments, text_tokens, strict=True):
        words = []
        for word in tokens.split_words(part, language):
            end = at + len(word.tokens)
            probability = float(probabilities[at:end].mean())
            words.append(Word(bounds_s[at], bounds_s[end], word.text, probability))
            spoken_s.append(bounds_s[at + _count_spoken(word, tokens)])
            at = end
        timed.append(replace(segment, words=tuple(words)))
    return _tidy(timed, spoken_s, offset_s, previous_end_s)


def _count_spoken(word: TokenWord, tokens: WhisperTokens) -> int:
    """How many of a word's tokens there are up to the last letter or digit; at least one."""
    count = len(word.tokens)
    while count > 1 and not any(c.isalnum() for c in tokens.decode(word.tokens[count - 1 :])):
        count -= 1
    return count


def _token_times(alignments: Sequence[tuple[int, int]], count: int) -> list[float]:
    """Times (count + 1,) in s at which the warp first reaches each token, never decreasing."""
    times = np.zeros(count + 1)
    seen = -1
    for token, step in alignments:
        if token > seen:
            times[seen + 1 : min(token, count) + 1] = step * _SECONDS_PER_STEP
            seen = token
    times[seen + 1 :] = times[max(seen, 0)]
    return [float(time) for time in np.maximum.accumulate(times)]


def _tidy(
    segments: list[Segment], spoken_s: list[float], offset_s: float, previous_end_s: float
) -> list[Segment]:
    """Shorten words that swallowed a pause, and make segments begin and end with their words."""
    words = [word for segment in segments for word in segment.words]
    lengths = [end - w.start for w, end in zip(words, spoken_s, strict=True) if end > w.start]
    median = min(_LONGEST_MEDIAN_S, float(np.median(lengths))) if lengths else 0.0
    spans = [[offset_s + word.start, offset_s + word.end] for word in words]
    _trim_pauses(spans, words, [offset_s + end for end in spoken_s], median)
    tidied = []
    for segment in segments:
        own, spans = spans[: len(segment.words)], spans[len(segment.words) :]
        if not own:
            tidied.append(segment)
            continue
        _heed_time_marks(own, segment, median, previous_end_s)
        for span in own:
            span[0] = max(span[0], previous_end_s)
            span[1] = previous_end_s = max(span)
        timed = tuple(
            replace(word, start=round(begin, 3), end=round(end, 3))
            for word, (begin, end) in zip(segment.words, own, strict=True)
        )
        tidied.append(replace(segment, start=timed[0].start, end=timed[-1].end, words=timed))
    return tidied


def _trim_pauses(
    spans: list[list[float]], words: list[Word], spoken_s: list[float], median: float
) -> None:
    """In place: the silence at the end of a sentence belongs to neither word beside it."""
    longest = median * _LONGEST_WORD
    for i, span in enumerate(spans):
        if words[i].text[-1:] in _SENTENCE_ENDS:
            span[1] = min(span[1], spoken_s[i] + longest)
        if i and words[i - 1].text[-1:] in _SENTENCE_ENDS and span[1] - span[0] > longest:
            span[0] = span[1] - longest


def _heed_time_marks(
    spans: list[list[float]], segment: Segment, median: float, previous_end_s: float
) -> None:
    """In place: after a pause the first word is short, and where the warp strays by over half a
    second from the segment's own marks, these win.
    """
    first, last = spans[0], spans[-1]
    longest = median * _LONGEST_WORD
    if first[1] - previous_end_s > 2 * longest and first[1] - first[0] > longest:
        first[0] = first[1] - longest
    if first[0] + 0.5 < segment.start < first[1]:
        first[0] = min(first[1] - median, segment.start)
    if last[0] < segment.end < last[1] - 0.5:
        last[1] = max(last[0] + median, segment.end)
