"""The one error that this room raises for input it cannot use."""


class FusionError(ValueError):
    """Bad input to joining pictures and language.

    Says in one sentence what was expected, what came, and what to do.
    """
