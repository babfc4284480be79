"""One window through Whisper's decoder: attempts at rising temperature, loops cut, silence told."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import ctranslate2
import numpy as np

from audio.asr_types import RecogniseOptions, Segment
from audio.whisper_tokens import WhisperTokens

#: Positions of Whisper's decoder, prompt included.
MAX_LENGTH = 448
# Text is spelled in at most this many tokens per second of speech (Hindi and Thai, several tokens
# per letter, come nearest); an endless repetition in a short window ends there.
_TOKENS_PER_SECOND = 40
_SPARE_TOKENS = 32
_CANDIDATES = 5  # samples drawn at temperatures above 0
_LATEST_START = 50  # the first time token may be at most 1 s
_LOOP_ROUNDS = 4
_LOOP_TOKENS = 16


@dataclass(frozen=True)
class Decoded:
    """What the decoder wrote for one window: text and time tokens, and how sure it was."""

    tokens: tuple[int, ...]
    avg_logprob: float
    no_speech_prob: float
    temperature: float
    compression_ratio: float
    looped: bool

    def is_silence(self, options: RecogniseOptions) -> bool:
        """Whether the model heard no speech and is not sure of the text either."""
        return (
            self.no_speech_prob > options.max_no_speech_prob
            and self.avg_logprob < options.min_avg_logprob
        )

    def is_good(self, options: RecogniseOptions) -> bool:
        """Whether there is no reason to try again at a higher temperature."""
        if self.is_silence(options):
            return True
        repeats = self.looped or self.compression_ratio > options.max_compression_ratio
        return not repeats and self.avg_logprob >= options.min_avg_logprob


def attempt(
    model: Any,
    encoded: Any,
    prompt: list[int],
    tokens: WhisperTokens,
    options: RecogniseOptions,
    *,
    temperature: float,
    seconds: float,
    prefix: Sequence[int] = (),
) -> Decoded:
    """Decode once. ``encoded`` (1, frames, d) holds ``seconds`` of sound, padding not counted.

    The tokens begin with ``prefix``; ``avg_logprob`` takes those for certain.
    """
    return attempt_many(
        model,
        [encoded],
        [[*prompt, *prefix]],
        tokens,
        options,
        temperature=temperature,
        max_tokens=text_room(seconds) - len(prefix),
    )[0]


def attempt_many(
    model: Any,
    encoded: Sequence[Any],
    prompts: list[list[int]],
    tokens: WhisperTokens,
    options: RecogniseOptions,
    *,
    temperature: float,
    max_tokens: int,
) -> list[Decoded]:
    """Decode several windows once, each (1, frames, d) of the same length, with its prompt."""
    search: dict[str, Any] = {"beam_size": options.beam_size}
    if temperature > 0:
        search = {
            "beam_size": 1,
            "num_hypotheses": _CANDIDATES,
            "sampling_topk": 0,
            "sampling_temperature": temperature,
        }
    results = model.generate(
        encoded[0] if len(encoded) == 1 else _stacked(encoded),
        prompts,
        max_length=min(MAX_LENGTH, len(prompts[0]) + max_tokens),
        max_initial_timestamp_index=_LATEST_START,
        return_scores=True,
        return_no_speech_prob=True,
        **search,
    )
    return [_decoded(result, tokens, temperature) for result in results]


def _stacked(encoded: Sequence[Any]) -> Any:
    """One StorageView of several, on the host; the model moves it to where it is."""
    host = ctranslate2.Device.cpu
    views = [view if view.device == "cpu" else view.to_device(host) for view in encoded]
    return ctranslate2.StorageView.from_array(np.concatenate([np.asarray(v) for v in views]))


def text_room(seconds: float) -> int:
    """How many tokens the text of so much sound may have."""
    return round(seconds * _TOKENS_PER_SECOND) + _SPARE_TOKENS


def _decoded(result: Any, tokens: WhisperTokens, temperature: float) -> Decoded:
    ids: list[int] = result.sequences_ids[0]
    # CTranslate2's score is the mean over the tokens; Whisper's counts the end token too.
    avg_logprob = result.scores[0] * len(ids) / (len(ids) + 1)
    return Decoded(
        tokens=tuple(ids),
        avg_logprob=float(avg_logprob),
        no_speech_prob=float(result.no_speech_prob),
        temperature=temperature,
        compression_ratio=compression_ratio(tokens.decode(ids)),
        looped=loop_start(tokens.text_tokens(ids)) is not None,
    )


def best_of(attempts: Sequence[Decoded], options: RecogniseOptions) -> Decoded:
    """The attempt to keep when none is good: the surest of those that do not repeat themselves."""
    varied = [
        decoded
        for decoded in attempts
        if not decoded.looped and decoded.compression_ratio <= options.max_compression_ratio
    ]
    return max(varied or attempts, key=lambda decoded: decoded.avg_logprob)


def cut_loop(decoded: Decoded, tokens: WhisperTokens) -> Decoded:
    """The same without the repetition at its end: one round of it stays."""
    keep = loop_start(tokens.text_tokens(decoded.tokens))
    if keep is None:
        return decoded
    kept: list[int] = []
    for token in decoded.tokens:
        if token < tokens.end:
            if not keep:
                break
            keep -= 1
        kept.append(token)
    return replace(decoded, tokens=tuple(kept))


def compression_ratio(text: str) -> float:
    """How many times smaller zlib makes the text."""
    raw = text.strip().encode()
    return len(raw) / len(zlib.compress(raw)) if raw else 0.0


def repeats_itself(text: str) -> bool:
    """Whether zlib makes the text so much smaller as only an endless repetition gets."""
    return compression_ratio(text) > RecogniseOptions.max_compression_ratio


def loop_start(text_tokens: Sequence[int]) -> int | None:
    """Where an endless repetition at the end of the text begins its second round, or None.

    It is one when the last 16 tokens or more are at least 4 rounds of the same.
    """
    length = len(text_tokens)
    for period in range(1, length // _LOOP_ROUNDS + 1):
        run = 0
        while run < length - period and (
            text_tokens[length - 1 - run] == text_tokens[length - 1 - run - period]
        ):
            run += 1
        if run + period >= max(_LOOP_TOKENS, _LOOP_ROUNDS * period):
            return length - run
    return None


@dataclass(frozen=True)
class Piece:
    """Text tokens between two time marks; times in s from the start of the window."""

    start_s: float
    end_s: float
    tokens: tuple[int, ...]


def cut_at_times(
    decoded: Decoded, tokens: WhisperTokens, seconds: float
) -> tuple[list[Piece], float]:
    """The pieces of one window of ``seconds``, and up to where in s the window is done.

    One time mark at the end says that no speech follows: the whole window is done. Two, or text
    that was not closed, say that speech goes on there, so the next window begins at the last
    mark. Text without any closing mark lasts to the window's end.
    """
    pieces: list[Piece] = []
    text: list[int] = []
    start = mark = 0.0
    for token in decoded.tokens:
        if not tokens.is_time(token):
            text.append(token)
            continue
        mark = min(tokens.seconds(token), seconds)
        if text:
            pieces.append(Piece(start, mark, tuple(text)))
            text = []
        start = mark
    if text and not pieces:
        return [Piece(start if start < seconds else 0.0, seconds, tuple(text))], seconds
    last_two = decoded.tokens[-2:]
    goes_on = bool(text) or (len(last_two) == 2 and all(map(tokens.is_time, last_two)))
    done = pieces[-1].end_s if pieces and goes_on else seconds
    return pieces, done if done > 0 else seconds


def to_segments(
    decoded: Decoded,
    tokens: WhisperTokens,
    seconds: float,
    *,
    offset_s: float,
    previous_end_s: float,
) -> tuple[list[Segment], float]:
    """The segments of a window of ``seconds``, and up to where in s the window is done.

    The window begins at ``offset_s``; no segment begins before ``previous_end_s``.
    """
    pieces, done_s = cut_at_times(decoded, tokens, seconds)
    segments = [
        Segment(
            start=round(max(offset_s + piece.start_s, previous_end_s), 3),
            end=round(max(offset_s + piece.end_s, previous_end_s), 3),
            text=text,
            avg_logprob=decoded.avg_logprob,
            no_speech_prob=decoded.no_speech_prob,
            compression_ratio=decoded.compression_ratio,
            temperature=decoded.temperature,
            tokens=piece.tokens,
        )
        for piece in pieces
        if (text := tokens.decode(piece.tokens).strip())
    ]
    return segments, done_s
