"""Whisper's vocabulary: prompts, time tokens, and splitting text tokens into words."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer

from audio.errors import AudioError

SECONDS_PER_TIME_TOKEN = 0.02
#: Half of the decoder's 448 positions may hold context, less the token that opens it.
_MAX_CONTEXT = 448 // 2 - 1
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
# Written without spaces between words: here a word is one character with its marks.
_UNSPACED = frozenset({"zh", "ja", "th", "lo", "my", "yue"})
_DASHES = ("—", "–", "…", "...")
_OPENING = frozenset("\"'“‘¿¡([{«「『（《")
_CLOSING = frozenset("\"'.,!?:;”’)]}»、。，！？：；」』）》…")


@dataclass(frozen=True)
class TokenWord:
    """A word as the tokens that spell it; several words' tokens joined give the whole text."""

    text: str
    tokens: tuple[int, ...]


class WhisperTokens:
    """The token ids of one Whisper model, read from its ``tokenizer.json``."""

    def __init__(self, tokenizer: Tokenizer, *, multilingual: bool) -> None:
        self._tokenizer = tokenizer
        self.multilingual = multilingual
        self.end = self._special("<|endoftext|>")
        self._start = self._special("<|startoftranscript|>")
        self._context = self._special("<|startofprev|>")
        self._tasks = {task: self._special(f"<|{task}|>") for task in ("transcribe", "translate")}
        self.time_begin = self._special("<|notimestamps|>") + 1
        first = self._start + 1
        names = (tokenizer.id_to_token(i) for i in range(first, self._tasks["translate"]))
        self.languages = tuple(name[2:-2] for name in names if name) if multilingual else ("en",)

    @classmethod
    def load(cls, folder: Path, *, multilingual: bool) -> "WhisperTokens":
        """Read ``tokenizer.json`` in the model's folder."""
        path = folder / "tokenizer.json"
        if not path.is_file():
            raise AudioError(f"the Whisper model folder {folder} lacks tokenizer.json")
        return cls(Tokenizer.from_file(str(path)), multilingual=multilingual)

    def _special(self, name: str) -> int:
        token = self._tokenizer.token_to_id(name)
        if token is None:
            raise AudioError(f"the Whisper tokenizer lacks the token {name}; fetch the model again")
        return int(token)

    def start(self, language: str, task: str) -> list[int]:
        """The tokens that tell the decoder what to do."""
        if not self.multilingual:
            return [self._start]
        return [self._start, self._special(f"<|{language}|>"), self._tasks[task]]

    def prompt(self, language: str, task: str, context: Sequence[int] = ()) -> list[int]:
        """``start`` after as much of the end of ``context`` (text tokens) as there is room for."""
        text = self.text_tokens(context)[-_MAX_CONTEXT:]
        opened = [self._context, *text] if text else []
        return [*opened, *self.start(language, task)]

    def encode(self, text: str) -> list[int]:
        """Text tokens of a text; Whisper's own texts begin with a space."""
        ids: list[int] = self._tokenizer.encode(" " + text.strip(), add_special_tokens=False).ids
        return self.text_tokens(ids)

    def text_tokens(self, tokens: Sequence[int]) -> list[int]:
        """Only those tokens that spell text."""
        return [token for token in tokens if token < self.end]

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of the tokens; special tokens and half a character at the end spell nothing."""
        return self._decode(self.text_tokens(tokens)).rstrip(_REPLACEMENT)

    def _decode(self, text_tokens: Sequence[int]) -> str:
        text: str = self._tokenizer.decode(list(text_tokens), skip_special_tokens=False)
        return text

    def is_time(self, token: int) -> bool:
        """Whether the token is a time mark."""
        return token >= self.time_begin

    def seconds(self, token: int) -> float:
        """The time in s, from the start of the window, of a time token."""
        return (token - self.time_begin) * SECONDS_PER_TIME_TOKEN

    def split_words(self, tokens: Sequence[int], language: str) -> list[TokenWord]:
        """Split text tokens into words; no character is cut that several tokens spell.

        A word begins at a space or after a dash, so it carries its punctuation. Where the
        language writes no spaces, each character with the marks around it counts as a word.
        """
        unspaced = language in _UNSPACED
        words: list[TokenWord] = []
        for piece in self._split_characters(self.text_tokens(tokens)):
            if not words:
                starts = True
            elif unspaced:
                last = words[-1].text.strip()
                closes = not piece.text or all(c in _CLOSING for c in piece.text.strip())
                opened = bool(last) and all(c in _OPENING for c in last)
                starts = not closes and not opened
            else:
                starts = piece.text.startswith(" ") or words[-1].text.endswith(_DASHES)
            if starts:
                words.append(piece)
            else:
                last_word = words.pop()
                words.append(
                    TokenWord(last_word.text + piece.text, last_word.tokens + piece.tokens)
                )
        return words

    def _split_characters(self, tokens: Sequence[int]) -> list[TokenWord]:
        """The shortest runs of tokens that spell whole characters."""
        whole = self.decode(tokens)
        pieces: list[TokenWord] = []
        begin = done = 0
        for end in range(1, len(tokens) + 1):
            text = self._decode(tokens[begin:end])
            # A replacement character means half a character, unless the text itself has one here.
            cut = text.find(_REPLACEMENT)
            if cut < 0 or whole[done + cut : done + cut + 1] == _REPLACEMENT:
                pieces.append(TokenWord(text, tuple(tokens[begin:end])))
                begin, done = end, done + len(text)
        if begin < len(tokens):  # the model stopped within a character
            pieces.append(TokenWord("", tuple(tokens[begin:])))
        return pieces
