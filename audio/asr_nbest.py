"""More than the best guess of a recogniser: several texts for a window, and all its languages."""

from dataclasses import dataclass

from audio.asr import Recogniser, Window
from audio.asr_decode import MAX_LENGTH, loop_start, repeats_itself
from audio.asr_types import Task

_TOKENS_PER_SECOND = 12  # of English, however fast; an endless repetition ends there
_SPARE_TOKENS = 24


@dataclass(frozen=True)
class Hypothesis:
    """A text for a window.

    avg_logprob: mean over its tokens; repeats: whether it is an endless repetition.
    """

    text: str
    avg_logprob: float
    repeats: bool


def languages_of(recogniser: Recogniser, window: Window) -> dict[str, float]:
    """Every language that the model knows, with its probability in this window."""
    if not recogniser.multilingual:
        return {"en": 1.0}
    found = recogniser._model.detect_language(window.encoded)[0]
    return {str(token)[2:-2]: float(probability) for token, probability in found}


def hypotheses(
    recogniser: Recogniser,
    window: Window,
    *,
    language: str,
    task: Task,
    count: int,
    context: str = "",
) -> list[Hypothesis]:
    """Different texts for one window, by beam search: the same in every run, the likeliest first.

    Args:
        recogniser: a multilingual one for the task "translate".
        window: what it hears.
        language: spoken there.
        task: write it down, or translate it into English.
        count: beams; so many texts at most, as some differ in time marks only.
        context: text before, which the model goes on from.
    """
    tokens = recogniser.tokens
    prompt = tokens.prompt(language, task, tokens.encode(context) if context else ())
    room = round(window.seconds * _TOKENS_PER_SECOND) + _SPARE_TOKENS
    result = recogniser._model.generate(
        window.encoded,
        [prompt],
        beam_size=count,
        num_hypotheses=count,
        max_length=min(MAX_LENGTH, len(prompt) + room),
        return_scores=True,
    )[0]
    found: dict[str, Hypothesis] = {}
    for ids, score in zip(result.sequences_ids, result.scores, strict=True):
        text = tokens.decode(ids).strip()
        if text and text not in found:
            looped = loop_start(tokens.text_tokens(ids)) is not None
            repeats = looped or repeats_itself(text)
            found[text] = Hypothesis(text, round(float(score), 4), repeats)
    return list(found.values())
