"""Plays a sound file with whatever player the machine has."""

import shutil
import subprocess
from pathlib import Path

#: In order of preference: each plays a WAV file and ends by itself.
_PLAYERS = (
    ("pw-play",),
    ("paplay",),
    ("aplay", "-q"),
    ("afplay",),
    ("ffplay", "-nodisp", "-autoexit", "-loglevel", "error"),
)


def play(path: Path) -> bool:
    """Plays ``path`` to its end; False if no player is installed or none has a sound device."""
    for program, *options in _PLAYERS:
        if shutil.which(program) is None:
            continue
        done = subprocess.run([program, *options, str(path)], check=False, capture_output=True)
        if done.returncode == 0:
            return True
    return False
