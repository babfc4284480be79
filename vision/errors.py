"""The one error that this room raises for input it cannot use."""


class VisionError(ValueError):
    """Bad input to pictures: says what was expected, what came, and what to do, in one sentence."""
