"""The command line: one command a file, errors as one line with exit code 2."""

from assistant.cli.app import main

__all__ = ["main"]
