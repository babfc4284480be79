"""The one error that this room raises for input it cannot use."""


class AudioError(ValueError):
    """Bad input to sound: says what was expected, what came, and what to do, in one sentence."""
