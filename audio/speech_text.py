"""Text on its way to the voice: cut into clauses as it streams in, and put into spoken words."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from audio.errors import AudioError
from audio.spoken_tables import ABBREVIATIONS
from audio.verbalise import verbalise

__all__ = ["ClauseSplitter", "SplitRules", "split_clauses", "verbalise"]

_MARK = re.compile(r"[.!?…]+[\"'”’)\]*_]*(?=\s)|[,;:—][\"'”’)\]*_]*(?=\s)|\n")
# After these a full stop is no end; the last of them end a sentence before a capital letter.
_NEVER_LAST = frozenset(abbreviation for abbreviation in ABBREVIATIONS if "." in abbreviation) | {
    "St.",
    "No.",
    "Nos.",
    *str.split("Jan. Feb. Mar. Apr. Jun. Jul. Aug. Sep. Sept. Oct. Nov. Dec."),
}
_MAYBE_LAST = frozenset(("etc.", "Inc.", "Ltd.", "Corp.", "Co.", "Jr.", "Sr."))
_WHOLE_WORD = re.compile(r"\S+(?=\s)")
# One may breathe before these, unlike before "of" or "to".
_JOINING = frozenset(
    str.split("""and or but nor because although though while unless if when where who which that
    than as with without from for in on at by into onto over under about after before during
    between through against behind is are was were has have had can could will would should may
    might must does did""")
)
_GROWTH = 4
_LIST_MARK = re.compile(r"(?:[-*+•#>]|\d{1,2}[.)])\s")


@dataclass(frozen=True)
class SplitRules:
    """When a clause is long enough to be spoken by itself, in characters."""

    first_clause: int = 20  # the first piece may end at any mark: speech can begin early
    clause: int = 90  # later pieces end at a comma or colon only when they are this long
    longest: int = 280  # without any mark, the last space before this
    #: For speech that is to begin before its first clause is written: a piece without a mark may
    #: end when it is so long, before a word that joins (English ones are known); 0 is never. Each
    #: piece must be four times as long as the one before, which sounds while it is being written.
    opening: int = 0

    def __post_init__(self) -> None:
        if self.opening < 0:
            raise AudioError(f"expected opening of 0 characters or more, got {self.opening}")


@dataclass
class ClauseSplitter:
    """Cuts text that arrives in pieces; the cuts do not depend on how it arrived.

    One of these belongs to one text. Feed pieces, speak what comes back, and call `finish`.
    """

    rules: SplitRules = SplitRules()
    _held: str = field(default="", repr=False)
    _pieces: int = field(default=0, repr=False)

    def feed(self, piece: str) -> list[str]:
        """Take in more text; the clauses that are now complete, in order."""
        self._held = (self._held + piece).lstrip()
        return list(self._complete(final=False))

    def finish(self) -> list[str]:
        """The rest of the text, when no more will come."""
        clauses = list(self._complete(final=True))
        rest, self._held = self._held.strip(), ""
        return [*clauses, rest] if rest else clauses

    def _complete(self, *, final: bool) -> Iterator[str]:
        while (cut := self._next_cut(final=final)) is not None:
            clause, self._held = self._held[:cut].strip(), self._held[cut:].lstrip()
            if clause:
                self._pieces += 1
                yield clause

    def _next_cut(self, *, final: bool) -> int | None:
        """Where the text held so far is to be cut, or None if that is not certain yet."""
        text, joint = self._held, self._joint()
        for mark in _MARK.finditer(text):
            if mark.end() > (joint or self.rules.longest):
                break
            # Only so much is looked at, and waited for: more would let the cut depend on how the
            # text arrived.
            after = text[mark.end() :].lstrip(" \t")[:_LOOK_AHEAD]
            if mark[0][0] in _NEEDS_CONTEXT and len(after) < _LOOK_AHEAD and not final:
                return None
            if self._ends(text, mark, after):
                return mark.end()
        return joint or self._forced_cut()

    def _joint(self) -> int | None:
        """Where the first word that joins begins, once enough is before it."""
        enough, longest = self.rules.opening * _GROWTH**self._pieces, self.rules.longest
        if not 0 < enough < longest:
            return None
        words = _WHOLE_WORD.finditer(self._held, 0, longest)
        begins = (word.start() for word in words if word[0].lower() in _JOINING)
        return next((begin for begin in begins if begin >= enough), None)

    def _ends(self, text: str, mark: re.Match[str], after: str) -> bool:
        sign, end = mark[0][0], mark.end()
        if sign == "\n":
            return after.startswith("\n") or _LIST_MARK.match(after) is not None
        if sign in "!?…" or mark[0].startswith(".."):
            return True
        if sign == ".":
            return _full_stop(text[:end], after)
        long_enough = self.rules.clause if self._pieces else self.rules.first_clause
        return end >= long_enough

    def _forced_cut(self) -> int | None:
        longest = self.rules.longest
        if len(self._held) <= longest + _LOOK_AHEAD:
            return None
        space = self._held.rfind(" ", longest // 2, longest)
        return space if space > 0 else longest


_LOOK_AHEAD = 4  # characters: enough for a list mark such as "12. "
_NEEDS_CONTEXT = ".\n"  # what follows decides about these; the other marks speak for themselves


def _full_stop(before: str, after: str) -> bool:
    """Whether the full stop that `before` ends with ends a sentence."""
    word = before.split()[-1].lstrip("\"'“‘([*_")
    capital = after.lstrip("\"'“‘([*_ \n")[:1].isupper() or not after
    if word in _MAYBE_LAST or re.fullmatch(r"(?:[A-Za-z]\.){2,}", word):
        return capital and word not in ("e.g.", "i.e.")
    if word in _NEVER_LAST or re.fullmatch(r"[A-Z]\.", word):
        return False
    at_line_start = before.rstrip().rpartition("\n")[2].strip() == word
    return not (at_line_start and re.fullmatch(r"\d{1,2}\.", word))


def split_clauses(pieces: str | Iterable[str], rules: SplitRules | None = None) -> Iterator[str]:
    """Cut a whole text, or pieces of one as they come, into clauses to be spoken one by one."""
    splitter = ClauseSplitter(rules or SplitRules())
    for piece in [pieces] if isinstance(pieces, str) else pieces:
        yield from splitter.feed(piece)
    yield from splitter.finish()
