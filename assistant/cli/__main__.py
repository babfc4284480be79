"""``python -m assistant.cli``: the same as the command ``voxsight``."""

from assistant.cli import main

main()
