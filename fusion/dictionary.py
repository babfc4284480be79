"""The dictionary adapter: what the encoder's words score becomes the language model's own words.

Attention from the image feature over a visual vocabulary: keys are the encoder's class directions
(for CLIP its text embeddings, so the vocabulary is open), values are the language model's token
embeddings of the same names. It joins any such encoder with any language model without training.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from fusion.adapter import Directions, ImageFeatures, SoftTokens
from fusion.errors import FusionError
from fusion.scene import Scene, SceneReader, Thing, read_scene

#: Token embeddings (n, hidden) of a text, as the language model itself makes them.
Embedder = Callable[[str], Tensor]


@dataclass(frozen=True)
class Wording:
    """The words around the names; each starts with a space, as the tokens inside a sentence do.

    `doubt` goes before a name whose probability is below `doubt_below`. `places` are nine fields,
    row by row. Values that were tried are listed in CHANGELOG.md.
    """

    nothing: str = " nothing I can make out"
    doubt: str = " probably"
    doubt_below: float = 0.5
    joint: str = " and"
    places: tuple[str, ...] = (
        "in the top left",
        "at the top",
        "in the top right",
        "on the left",
        "in the centre",
        "on the right",
        "in the bottom left",
        "at the bottom",
        "in the bottom right",
    )

    def __post_init__(self) -> None:
        """Refuse a wording that does not name nine places."""
        if len(self.places) != 9:
            raise FusionError(
                f"expected names for 9 places, but got {len(self.places)}; name them row by row"
            )


@dataclass(frozen=True, eq=False)
class DictionaryAdapter:
    """Soft tokens = softmax(sharpness x scores) times the names' token embeddings.

    `values` (c, t, hidden) holds up to t tokens a name and `lengths` (c,) how many are used. Make
    one with `build`.
    """

    encoder: str
    directions: Directions
    values: Tensor
    lengths: Tensor
    phrases: dict[str, Tensor] = field(repr=False)
    reader: SceneReader = field(default_factory=SceneReader)
    wording: Wording = field(default_factory=Wording)
    sharpness: float = 3.0

    @classmethod
    def build(
        cls,
        encoder: str,
        directions: Directions,
        embed: Embedder,
        *,
        reader: SceneReader | None = None,
        wording: Wording | None = None,
        tokens_per_name: int = 6,
        sharpness: float = 3.0,
    ) -> DictionaryAdapter:
        """Look up every name once; names longer than `tokens_per_name` lose their end."""
        if not directions.names:
            raise FusionError("expected at least one word for the dictionary, but got none")
        if tokens_per_name < 1 or sharpness <= 0:
            raise FusionError(
                f"expected tokens_per_name of 1 or more and a sharpness above 0, but got "
                f"{tokens_per_name} and {sharpness}; change those options"
            )
        wording = wording or Wording()
        rows = [embed(f" {name}")[:tokens_per_name] for name in directions.names]
        values = torch.zeros(len(rows), max(map(len, rows)), rows[0].shape[1], dtype=rows[0].dtype)
        for index, row in enumerate(rows):
            values[index, : len(row)] = row
        spoken = ("doubt", "nothing", "joint")
        phrases = {text: embed(text) for text in (getattr(wording, name) for name in spoken)}
        phrases |= {place: embed(f" {place}") for place in wording.places}
        return cls(
            encoder,
            directions,
            values,
            torch.tensor([len(row) for row in rows]),
            phrases,
            reader or SceneReader(),
            wording,
            sharpness,
        )

    def __call__(self, features: ImageFeatures) -> SoftTokens:
        """The picture's soft tokens; FusionError for another encoder's features."""
        width = self.directions.weights.shape[1]
        if features.encoder != self.encoder or features.pooled.shape[-1] != width:
            raise FusionError(
                f"expected features of {self.encoder} with {width} numbers, but got those of "
                f"{features.encoder} with {features.pooled.shape[-1]}; use the adapter made for it"
            )
        with torch.inference_mode():
            scene = read_scene(features, self.directions, self.reader, self.wording.places)
            return SoftTokens(self._tell(scene), scene.guesses, recognised=bool(scene.things))

    def _tell(self, scene: Scene) -> Tensor:
        """Embeddings of "[probably] NAME [PLACE] [and ...]", or of the words for nothing."""
        if not scene.things:
            return self.phrases[self.wording.nothing]
        parts: list[Tensor] = []
        for thing in scene.things:
            if parts:
                parts.append(self.phrases[self.wording.joint])
            parts += self._tell_thing(thing)
        return torch.cat(parts)

    def _tell_thing(self, thing: Thing) -> Sequence[Tensor]:
        doubtful = thing.guess.probability < self.wording.doubt_below
        parts = [self.phrases[self.wording.doubt]] if doubtful else []
        parts.append(self.name_tokens(thing.logits))
        if thing.guess.place:
            parts.append(self.phrases[thing.guess.place])
        return parts

    def name_tokens(self, logits: Tensor) -> Tensor:
        """Mix the names' tokens by their scores (c,): (length of the best name, hidden).

        At each place only the names that are long enough take part, so that a mixture with a short
        name does not fade out towards its end.
        """
        share = (self.sharpness * logits).softmax(-1)
        count = int(self.lengths[int(logits.argmax())])
        takes_part = torch.arange(count)[None] < self.lengths[:, None]  # (c, count)
        mix = torch.where(takes_part, share[:, None], 0.0)
        mix = (mix / mix.sum(0)).T.to(torch.float32)  # (count, c)
        mixed = torch.einsum("kc,ckh->kh", mix, self.values[:, :count].float())
        return mixed.to(self.values.dtype)
