"""Opens an adapter file as whichever adapter it holds, for the models that are loaded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from fusion.adapter import Adapter, Directions, ImageFeatures
from fusion.adapter_file import AdapterHeader, check_pair, read_adapter
from fusion.decoder import Decoder
from fusion.dictionary import DictionaryAdapter, Wording
from fusion.errors import FusionError
from fusion.projector import MlpProjector
from fusion.resampler import PoolingResampler
from fusion.scene import SceneReader


class Encoder(Protocol):
    """What this room needs of an image encoder (`vision.encoders` has them)."""

    @property
    def name(self) -> str:
        """The name that adapters are made for."""
        ...

    @property
    def dim(self) -> int:
        """Width of a patch."""
        ...

    # Any: the picture's type is the encoder's business.
    def encode(self, image: Any) -> ImageFeatures:
        """Encode one picture."""
        ...

    def class_directions(self, names: Sequence[str] | None = None) -> Directions:
        """Directions of words; None for all that the encoder knows by itself."""
        ...


def build_dictionary(
    encoder: Encoder,
    decoder: Decoder,
    words: Sequence[str] | None = None,
    reader: SceneReader | None = None,
    settings: dict[str, object] | None = None,
) -> DictionaryAdapter:
    """A dictionary between two loaded models; `words` opens the vocabulary of a CLIP encoder.

    `settings` may hold `sharpness`, `tokens_per_name` and `wording`, as an adapter file does.
    """
    settings = settings or {}
    try:
        chosen = _wording(settings.get("wording", {}))
        tokens = int(str(settings.get("tokens_per_name", 6)))
        sharpness = float(str(settings.get("sharpness", 3.0)))
    except (TypeError, ValueError) as problem:
        raise FusionError(
            f"expected settings of a dictionary adapter, but {problem}; train it again"
        ) from None
    return DictionaryAdapter.build(
        encoder.name,
        encoder.class_directions(words),
        lambda text: decoder.embed(decoder.token_ids(text)).cpu(),
        reader=reader,
        wording=chosen,
        tokens_per_name=tokens,
        sharpness=sharpness,
    )


def _wording(options: object) -> Wording:
    """A wording from an adapter file's settings (JSON has lists where we have tuples)."""
    if not isinstance(options, dict):
        raise TypeError("the wording is not a table")
    chosen: dict[str, Any] = {k: tuple(v) if k == "places" else v for k, v in options.items()}
    return Wording(**chosen)


def load_adapter(path: Path, encoder: Encoder, decoder: Decoder) -> Adapter:
    """Open the adapter at `path` for these two models.

    FusionError if the file is damaged, of an unknown kind, or made for other models.
    """
    header, tensors = read_adapter(path)
    check_pair(
        header,
        encoder=encoder.name,
        language_model=decoder.name,
        hidden_size=decoder.hidden_size,
    )
    return _open(path, header, tensors, encoder, decoder)


def _open(
    path: Path,
    header: AdapterHeader,
    tensors: dict[str, Tensor],
    encoder: Encoder,
    decoder: Decoder,
) -> Adapter:
    if header.kind == "dictionary":
        scene = header.settings.get("reader", {})
        reader = SceneReader.from_tensors(tensors, scene if isinstance(scene, dict) else {})
        return build_dictionary(encoder, decoder, None, reader, header.settings)
    if header.kind == "mlp":
        return MlpProjector.from_tensors(tensors, header.encoder)
    if header.kind == "resampler":
        heads = int(str(header.settings.get("heads", 8)))
        return PoolingResampler.from_tensors(tensors, header.encoder, heads)
    raise FusionError(
        f"expected an adapter of the kind dictionary, mlp or resampler in {path.name}, but it "
        f"says {header.kind!r}; update the program or train the adapter again"
    )
