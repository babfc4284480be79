"""Which words of a growing transcript are final: LocalAgreement-2, with no model inside.

A recogniser hears a window of the stream that grows at its end, and each time says what follows
the committed words. Where two such hypotheses in a row begin with the same words, these are
committed and never change; the rest is tentative. Sound whose words are committed is cut off the
window's start, so that the window stays short however long someone talks:

    |......... context .........|....... prefix .......|..... tentative .....|
                                ^ window_begin          ^ the last commit

The words of the context are only a prompt: their sound is gone. Those of the prefix still sound at
the window's start, and the recogniser is made to begin with them, so that a word which the cut
clips is neither lost nor said twice.

Source: D. Macháček, R. Dabre, O. Bojar, "Turning Whisper into Real-Time Transcription System"
(2023); the forced prefix as in P. Polák et al., CUNI-KIT at IWSLT 2022.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from audio.errors import AudioError
from audio.pcm import SAMPLE_RATE

_SENTENCE_ENDS = tuple(".!?。！？…")
_BEFORE_WORD = SAMPLE_RATE // 10  # of the silence before the first word that stays in a window


@dataclass(frozen=True)
class HeardWord:
    """One word with its punctuation; it sounds from sample `begin` to sample `end` of the stream.

    `text` keeps the space before it: the words of a transcript, joined, spell it. `tokens` are
    those that spell the word for the recogniser that heard it.
    """

    text: str
    begin: int
    end: int
    probability: float = 1.0
    tokens: tuple[int, ...] = ()

    @property
    def normalised(self) -> str:
        """The word as words are compared: without case and punctuation."""
        letters = "".join(c for c in self.text if c.isalnum())
        return letters.casefold() or self.text.strip()

    @property
    def ends_sentence(self) -> bool:
        """Whether a full stop, a question mark or the like closes it."""
        return self.text.rstrip("\"'”’)»").endswith(_SENTENCE_ENDS)


@dataclass(frozen=True)
class TranscriptUpdate:
    """What a hypothesis changed: words that are now final, and all that may still change."""

    committed_new: tuple[HeardWord, ...] = ()
    tentative: tuple[HeardWord, ...] = ()


@dataclass(eq=False)
class TranscriptState:
    """What is known of one utterance; the caller holds it."""

    #: The sample at which the recogniser's window begins.
    window_begin: int = 0
    #: Final words, in order; the latest of them only, as a prompt needs no more.
    committed: list[HeardWord] = field(default_factory=list)
    #: How many of `committed` sound before the window: the context, the others are the prefix.
    out: int = 0
    tentative: tuple[HeardWord, ...] = ()
    #: What the hypothesis before the last had in the place of `tentative`.
    earlier: tuple[HeardWord, ...] = ()

    @property
    def context(self) -> list[HeardWord]:
        """The committed words whose sound is before the window."""
        return self.committed[: self.out]

    @property
    def prefix(self) -> list[HeardWord]:
        """The committed words that the window begins with."""
        return self.committed[self.out :]


@dataclass(frozen=True)
class LocalAgreement:
    """How words are committed and windows cut; it holds no state of any stream.

    Raises AudioError if the figures contradict each other.
    """

    #: A window longer than this is cut at a sentence or a word. Where no words agree for twice as
    #: long, they are committed unconfirmed: the work per second stays bounded whatever is heard.
    window_s: float = 8.0
    #: So much of the committed sound stays before a word that a window is cut at: Whisper hears
    #: worse without a run-up.
    run_up_s: float = 2.0
    #: A word less probable than this is committed once three hypotheses in a row have it, any other
    #: once two have: the same wrong word is heard twice where only its beginning is known.
    sure: float = 0.5
    #: How many words a window is given as context.
    context_words: int = 32

    def __post_init__(self) -> None:
        if not 0 <= self.run_up_s < self.window_s <= 14:
            raise AudioError(
                "expected 0 <= run_up_s < window_s <= 14, got "
                f"{self.run_up_s:g} and {self.window_s:g}"
            )
        if self.context_words < 0:
            raise AudioError(f"expected 0 or more context_words, got {self.context_words}")
        if not 0 <= self.sure <= 1:
            raise AudioError(f"expected a probability of 0 to 1 as sure, got {self.sure:g}")

    def hear(
        self, state: TranscriptState, words: Sequence[HeardWord], until: int
    ) -> TranscriptUpdate:
        """Take a hypothesis of what follows the committed words, up to sample `until`.

        Its last word stays tentative even if it agrees: where the sound breaks off, half words
        are heard as whole ones, and full stops where the sentence goes on.
        """
        final = max(0, min(self._agreed(state, words), len(words) - 1))
        if until - state.window_begin > 2 * self._window:
            final = max(final, sum(word.end <= until - self._window for word in words))
        return self._commit(state, words, final, until)

    def close(self, state: TranscriptState) -> TranscriptUpdate:
        """The utterance is over: what was tentative is final."""
        words = state.tentative
        return self._commit(state, words, len(words), state.window_begin)

    def _agreed(self, state: TranscriptState, words: Sequence[HeardWord]) -> int:
        twice = common_prefix(state.tentative, words)
        thrice = min(twice, common_prefix(state.earlier, words))
        doubtful = (at for at in range(thrice, twice) if words[at].probability < self.sure)
        return next(doubtful, twice)

    @property
    def _window(self) -> int:
        return round(self.window_s * SAMPLE_RATE)

    def _commit(
        self, state: TranscriptState, words: Sequence[HeardWord], count: int, until: int
    ) -> TranscriptUpdate:
        state.committed += words[:count]
        state.earlier, state.tentative = state.tentative[count:], tuple(words[count:])
        if until - state.window_begin > self._window:
            self._cut(state, until)
        forgotten = max(0, state.out - self.context_words)
        del state.committed[:forgotten]
        state.out -= forgotten
        return TranscriptUpdate(tuple(words[:count]), state.tentative)

    def _cut(self, state: TranscriptState, until: int) -> None:
        """Move the window's start on to a sentence, to a word or, failing both, just on."""
        words = state.committed
        first = self._sentence(state, until) or self._word(state)
        begin = state.window_begin
        if first > state.out:
            begin = max(begin, words[first - 1].end, words[first].begin - _BEFORE_WORD)
        if until - begin > 2 * self._window:
            begin = until - self._window
            first = sum(word.begin < begin for word in words)
        state.window_begin, state.out = begin, max(state.out, first)

    def _sentence(self, state: TranscriptState, until: int) -> int:
        """The latest word after the end of a sentence that shortens the window by a quarter."""
        words = state.committed
        for index in range(len(words) - 1, state.out, -1):
            if until - words[index - 1].end > 0.75 * self._window:
                break
            if words[index - 1].ends_sentence:
                return index
        return 0

    def _word(self, state: TranscriptState) -> int:
        """The latest word that leaves the run-up before the last commit."""
        words = state.committed
        if not words:
            return 0
        latest = words[-1].end - self.run_up_s * SAMPLE_RATE
        return max(0, sum(word.begin <= latest for word in words) - 1)


def common_prefix(one: Sequence[HeardWord], other: Sequence[HeardWord]) -> int:
    """How many words two hypotheses begin with in common, case and punctuation ignored."""
    count = 0
    for a, b in zip(one, other, strict=False):
        if a.normalised != b.normalised:
            break
        count += 1
    return count
