"""A byte-level Whisper vocabulary and a scripted model, for logic tests without weights."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from audio.whisper_tokens import WhisperTokens

LANGUAGES = ("en", "zh", "de")


def byte_tokens(*, multilingual: bool = True) -> WhisperTokens:
    """One token per byte, then Whisper's special tokens in Whisper's order."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    names = ["endoftext", "startoftranscript", *LANGUAGES, "translate", "transcribe"]
    names += ["startoflm", "startofprev", "nospeech", "notimestamps"]
    tokenizer.add_special_tokens([AddedToken(f"<|{name}|>", special=True) for name in names])
    return WhisperTokens(tokenizer, multilingual=multilingual)


@dataclass
class Result:
    sequences_ids: list[list[int]]
    scores: list[float]
    no_speech_prob: float


@dataclass
class Alignment:
    alignments: list[tuple[int, int]]
    text_token_probs: list[float]


@dataclass
class FakeWhisper:
    """Answers ``generate`` by a function of (call number, encoded shape, search options)."""

    answer: Callable[[int, tuple[int, ...], dict[str, Any]], Result]
    language: str = "de"
    n_mels: int = 80
    shapes: list[tuple[int, ...]] = field(default_factory=list)
    prompts: list[list[int]] = field(default_factory=list)

    def encode(self, view: Any) -> tuple[int, ...]:
        self.shapes.append(tuple(view.shape))
        return tuple(view.shape)

    def detect_language(self, encoded: Any) -> list[list[tuple[str, float]]]:
        return [[(f"<|{self.language}|>", 0.75)]]

    def generate(self, encoded: Any, prompts: list[list[int]], **options: Any) -> list[Result]:
        self.prompts.append(prompts[0])
        return [self.answer(len(self.prompts) - 1, encoded, options)]

    def align(
        self, encoded: Any, start: Any, text: Sequence[list[int]], frames: int, **_: Any
    ) -> list[Alignment]:
        """Each token lasts 0.1 s (5 steps)."""
        count = len(text[0])
        pairs = [(i, 5 * i + k) for i in range(count + 1) for k in range(5)]
        return [Alignment(pairs, [0.5] * count)]


def spoken(
    tokens: WhisperTokens,
    *parts: str | float,
    score: float = -0.2,
    no_speech: float = 0.0,
) -> Result:
    """A result from texts and times in s."""
    ids: list[int] = []
    for part in parts:
        if isinstance(part, str):
            ids += tokens.encode(part) if part.startswith(" ") else tokens.encode(part)[1:]
        else:
            ids.append(tokens.time_begin + round(part / 0.02))
    return Result([ids], [score], no_speech)
