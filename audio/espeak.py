"""espeak-ng as an optional phonemizer, always in a process of its own (it is under the GPL)."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass

from audio.errors import AudioError

_MARKS = re.compile(r"([,.;:?!])")
_TIMEOUT_S = 30.0


def espeak_installed() -> bool:
    """Whether the program espeak-ng is on the path."""
    return shutil.which("espeak-ng") is not None


@dataclass(frozen=True)
class EspeakPhonemizer:
    """Asks espeak-ng for the IPA of each clause; marks stay where they were."""

    language: str = "en-us"

    def __call__(self, text: str) -> str:
        """IPA of verbalised text.

        Raises AudioError if espeak-ng is not installed or fails.
        """
        parts = _MARKS.split(text)
        clauses = [part.strip() for part in parts[::2]]
        spoken = iter(self._ask([clause for clause in clauses if clause]))
        marks = [*parts[1::2], ""]
        said = [next(spoken) + mark if c else "" for c, mark in zip(clauses, marks, strict=True)]
        return " ".join(part for part in said if part)

    def _ask(self, clauses: list[str]) -> list[str]:
        """One line of IPA for each clause; an empty line between them keeps them apart."""
        if not clauses:
            return []
        command = ["espeak-ng", "-q", "--ipa", "-v", self.language, "--stdin"]
        try:
            done = subprocess.run(
                command,
                input=".\n\n".join([*clauses, ""]),
                capture_output=True,
                text=True,
                timeout=_TIMEOUT_S,
                check=True,
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise AudioError(
                f"espeak-ng could not be run ({type(error).__name__}); install it, or use the "
                f"built-in phonemes."
            ) from error
        lines = [line.strip() for line in done.stdout.splitlines() if line.strip()]
        if len(lines) != len(clauses):
            raise AudioError(
                f"espeak-ng was given {len(clauses)} clauses but wrote {len(lines)} lines; use "
                f"the built-in phonemes for this text."
            )
        return lines
