"""What every adapter takes and gives, and how one is loaded and checked against its models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from fusion.errors import FusionError


class ImageFeatures(Protocol):
    """What an adapter needs of an image encoder's output; float32, on the CPU."""

    @property
    def patches(self) -> Tensor:
        """One row for each patch (n, d), row by row over `grid`."""
        ...

    @property
    def pooled(self) -> Tensor:
        """The whole picture (p,), in the space of the encoder's class directions."""
        ...

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches."""
        ...

    @property
    def encoder(self) -> str:
        """Name of the encoder."""
        ...


class Directions(Protocol):
    """What words look like to an encoder: logits = scale * (weights @ pooled) + bias."""

    @property
    def names(self) -> tuple[str, ...]:
        """The words."""
        ...

    @property
    def weights(self) -> Tensor:
        """One row for each word (c, p)."""
        ...

    @property
    def bias(self) -> Tensor:
        """One number for each word (c,)."""
        ...

    @property
    def scale(self) -> float:
        """Factor of the products."""
        ...


@dataclass(frozen=True)
class Guess:
    """One thing that may be in the picture: how likely, and where ("on the left"), if known."""

    name: str
    probability: float
    place: str = ""


@dataclass(frozen=True, eq=False)
class SoftTokens:
    """A picture as the language model reads it: embeddings (k, hidden) for k placeholders.

    `guesses` (best first; empty if the adapter knows no words) are for people and programs;
    `recognised` is False where the picture resembles nothing and the embeddings say so.
    """

    embeddings: Tensor
    guesses: tuple[Guess, ...] = ()
    recognised: bool = True


class Adapter(Protocol):
    """Maps an encoder's features to soft tokens; loaded once, without state of its own."""

    def __call__(self, features: ImageFeatures) -> SoftTokens:
        """The picture's soft tokens; FusionError if the features are another encoder's."""
        ...


def check_features(features: ImageFeatures, encoder: str, dim: int) -> None:
    """Refuse features that come from another encoder or have another width than `dim`."""
    if features.encoder != encoder or features.patches.shape[-1] != dim:
        raise FusionError(
            f"expected features of {encoder} with {dim} numbers each, but got those of "
            f"{features.encoder} with {features.patches.shape[-1]}; use the adapter made for it"
        )
