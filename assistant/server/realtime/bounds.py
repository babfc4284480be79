"""What one dialogue may take at most, so that no client can fill the server."""

from dataclasses import dataclass, field, fields

from assistant.errors import ConfigError
from vision.image import ImageLimits


@dataclass(frozen=True)
class DialogueLimits:
    """All bounds of one dialogue. ConfigError for one that is not above 0."""

    #: Items of the conversation, characters of one item, and of all (pictures' URLs included).
    max_items: int = 1000
    max_item_chars: int = 100_000
    max_conversation_chars: int = 48 * 2**20
    #: Sound that waits to be committed; a turn that is so long ends there.
    max_buffer_s: float = 600.0
    #: Sound that is kept for `conversation.item.retrieve`; beyond, the oldest is forgotten.
    max_kept_sound_bytes: int = 32 * 2**20
    #: Tokens of the conversation in a prompt, instructions not counted.
    context_tokens: int = 3000
    #: Tokens of one response whose `max_output_tokens` is "inf".
    max_output_tokens: int = 512
    #: Responses outside the conversation at the same time.
    max_side_responses: int = 4
    #: Turns that are over and whose words are not known yet; beyond, sound waits to be taken in.
    max_turns_waiting: int = 4
    #: Recognition runs again when so much more was said.
    recognise_every_ms: int = 500
    #: One picture.
    images: ImageLimits = field(default_factory=ImageLimits)

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            if isinstance(value, int | float) and value <= 0:
                raise ConfigError(f"Expected {each.name} above 0, got {value}; raise it.")
