"""What can go wrong, told in one sentence: the errors that a user may see."""

from audio.errors import AudioError
from fusion.errors import FusionError
from vision.errors import VisionError


class VoxsightError(Exception):
    """Base of the product's own errors; the text is one sentence for the user."""


class ConfigError(VoxsightError):
    """An option or a setting is unknown or out of range."""


class ModelStoreError(VoxsightError):
    """A model or sample could not be found, fetched or trusted."""


class OfflineError(ModelStoreError):
    """A download would be needed, but offline mode forbids opening a socket."""


#: What the command line prints as one clear line with exit code 2. The rooms stand alone, so each
#: has an error of its own; here they meet.
USER_ERRORS = (VoxsightError, AudioError, VisionError, FusionError)
