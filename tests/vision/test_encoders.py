"""EfficientNet-Lite0: timm is the oracle, and the grid, the pooled feature and the rows agree."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from vision.classes import read_class_names
from vision.efficientnet import EfficientNetLite0Network
from vision.encoders import (
    EfficientNetLite0,
    EncoderOptions,
    ImageEncoder,
    load_encoder,
    preprocess,
)
from vision.errors import VisionError
from vision.image import read_image

CLASSES = Path(__file__).parents[2] / "assets" / "imagenet_classes.tsv"
NAMES = [f"thing {index}" for index in range(1000)]


def published(name: str) -> str:
    """Spell a tensor's name as the published checkpoint does: `_blocks.0._bn1.weight`."""
    *path, leaf = name.split(".")
    return ".".join([*(part if part.isdigit() else f"_{part}" for part in path), leaf])


@pytest.fixture(scope="module")
def oracle() -> Any:
    torch.manual_seed(0)
    model = timm.create_model("tf_efficientnet_lite0", pretrained=False).eval()
    for tensor in model.state_dict().values():
        if tensor.ndim == 1:  # norms at their start would hide a mistake
            tensor.copy_(torch.rand_like(tensor) + 0.5)
    return model


@pytest.fixture(scope="module")
def checkpoint(oracle: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """timm's weights under the published names: both list their tensors in the same order."""
    tensors = oracle.state_dict().values()
    names = [published(name) for name in EfficientNetLite0Network().state_dict()]
    path = tmp_path_factory.mktemp("lite0") / "lite0.pth"
    torch.save(dict(zip(names, tensors, strict=True)), path)
    return path


@pytest.fixture(scope="module")
def encoder(checkpoint: Path) -> EfficientNetLite0:
    return EfficientNetLite0.load(checkpoint, NAMES)


def photo(seed: int = 0, size: tuple[int, int] = (300, 240)) -> Image.Image:
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))


def test_same_numbers_as_timm(encoder: EfficientNetLite0, oracle: Any) -> None:
    image = photo()
    with torch.no_grad():
        pixels = preprocess(image)
        grid = oracle.forward_features(pixels)
        logits = oracle(pixels)[0]
    features = encoder.encode(image)
    assert features.grid == (7, 7)
    assert features.patches.shape == (49, encoder.dim)
    assert features.encoder == encoder.name == "efficientnet-lite0"
    torch.testing.assert_close(
        features.patches, grid[0].flatten(1).T.contiguous(), atol=1e-3, rtol=1e-3
    )
    torch.testing.assert_close(
        encoder.class_directions().logits(features.pooled), logits, atol=1e-3, rtol=1e-3
    )


def test_unfolded_network_equals_timm_on_odd_sizes(checkpoint: Path, oracle: Any) -> None:
    network = EfficientNetLite0Network().eval()
    network.load_state_dict(
        dict(zip(network.state_dict(), oracle.state_dict().values(), strict=True))
    )
    pixels = torch.randn(2, 3, 97, 131, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(network(pixels), oracle.forward_features(pixels))


def test_cells_and_whole_share_the_rows(encoder: EfficientNetLite0) -> None:
    features = encoder.encode(photo(2))
    directions = encoder.class_directions()
    cells = directions.logits(features.patches)
    assert cells.shape == (49, 1000)
    torch.testing.assert_close(cells.mean(0), directions.logits(features.pooled))


def test_chosen_names(encoder: EfficientNetLite0) -> None:
    everything = encoder.class_directions()
    some = encoder.class_directions(["thing 7", "Thing 3"])
    assert some.names == ("thing 7", "Thing 3")
    assert torch.equal(some.weights, everything.weights[[7, 3]])
    assert torch.equal(some.bias, everything.bias[[7, 3]])
    with pytest.raises(VisionError, match="no class 'unicorn'"):
        encoder.class_directions(["thing 1", "unicorn"])


def test_features_can_be_trained_on(encoder: EfficientNetLite0) -> None:
    weight = torch.ones(1280, requires_grad=True)
    product = (encoder.encode(photo()).pooled * weight).sum()
    (gradient,) = torch.autograd.grad(product, weight)
    assert gradient.abs().sum() > 0


def test_preprocess_centres_and_normalises() -> None:
    striped = Image.new("RGB", (448, 224), "red")
    striped.paste((0, 255, 127), (112, 0, 336, 224))
    pixels = preprocess(striped)
    assert pixels.shape == (1, 3, 224, 224)
    expected = torch.tensor([-127 / 128, 1.0, 0.0])
    torch.testing.assert_close(pixels[0, :, 5:-5, 5:-5].mean((1, 2)), expected)
    assert preprocess(Image.new("L", (2, 20_000), 127)).abs().max() == 0


@pytest.mark.parametrize("damage", ["missing", "shape", "extra"])
def test_a_foreign_checkpoint_is_refused(checkpoint: Path, tmp_path: Path, damage: str) -> None:
    state = torch.load(checkpoint, weights_only=True)
    if damage == "missing":
        del state["_bn1.bias"]
    elif damage == "shape":
        state["_fc.weight"] = torch.zeros(10, 1280)
    else:
        state["_se.weight"] = torch.zeros(1)
    torch.save(state, tmp_path / "other.pth")
    with pytest.raises(VisionError, match="not EfficientNet-Lite0: for"):
        EfficientNetLite0.load(tmp_path, NAMES)


class Trap:
    def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
        return (Path.touch, (Path("trap-was-sprung"),))  # type: ignore[return-value]


def test_code_and_rubbish_in_a_checkpoint_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "lite0.pth"
    for write in (
        lambda: torch.save({"a": Trap()}, path),
        lambda: path.write_bytes(pickle.dumps({"a": 1}, protocol=2)),
        lambda: path.write_bytes(b"not a checkpoint"),
        lambda: path.write_bytes(b""),
    ):
        write()
        with pytest.raises(VisionError, match="not a readable checkpoint"):
            EfficientNetLite0.load(path, NAMES)
    torch.save([1, 2], path)
    with pytest.raises(VisionError, match="named tensors"):
        EfficientNetLite0.load(path, NAMES)
    assert not (tmp_path / "trap-was-sprung").exists()


def test_wrong_number_of_names(checkpoint: Path) -> None:
    with pytest.raises(VisionError, match="Expected 1000 class names, got 3"):
        EfficientNetLite0.load(checkpoint, ["a", "b", "c"])


def test_load_encoder_knows_the_folder(checkpoint: Path, tmp_path: Path) -> None:
    loaded: ImageEncoder = load_encoder(checkpoint.parent, EncoderOptions(classes=CLASSES))
    assert isinstance(loaded, EfficientNetLite0)
    assert loaded.class_directions(["tabby", "espresso"]).weights.shape == (2, 1280)
    with pytest.raises(VisionError, match="table of its class names"):
        load_encoder(checkpoint)
    with pytest.raises(VisionError, match="found none"):
        load_encoder(tmp_path)
    with pytest.raises(VisionError, match="found 0"):
        EfficientNetLite0.load(tmp_path, NAMES)


@pytest.mark.parametrize("options", [{"layer": 0}, {"templates": ()}, {"templates": ("a photo",)}])
def test_senseless_options_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(VisionError):
        EncoderOptions(**options)  # type: ignore[arg-type]


def test_class_table_agrees_with_timm() -> None:
    from timm.data import ImageNetInfo

    info = ImageNetInfo()
    classes = read_class_names(CLASSES)
    assert [entry.wnid for entry in classes] == list(info.label_names())
    for index, entry in enumerate(classes):
        words = {word.casefold() for word in (entry.name, *entry.synonyms)}
        lemmas = info.index_to_description(index).split(", ")
        assert {lemma.casefold() for lemma in lemmas} <= words, entry
        assert not set("()/|") & set(entry.name), entry


@pytest.mark.parametrize(
    "text",
    [
        "",
        "name\n",
        "index\twnid\tname\tsynonyms\n1\tn0\tcat\t\n",
        "index\twnid\tname\tsynonyms\n0\tn0\t\t\n",
        "index\twnid\tname\tsynonyms\n0\tn0\n",
    ],
)
def test_a_broken_class_table_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "classes.tsv"
    path.write_text(text)
    with pytest.raises(VisionError, match="restore the file"):
        read_class_names(path)
    with pytest.raises(VisionError, match="Cannot read"):
        read_class_names(tmp_path / "missing.tsv")


@pytest.mark.models
def test_real_weights_on_real_photos(model_folder: Callable[[str], Path]) -> None:
    encoder = EfficientNetLite0.load(model_folder("efficientnet-lite0"), CLASSES)
    photos = model_folder("sample-photos")
    directions = encoder.class_directions()

    def probabilities(image: Image.Image) -> torch.Tensor:
        return directions.logits(encoder.encode(image).pooled).softmax(0)

    expected = {
        "chelsea.png": {"Egyptian Mau", "tiger cat", "tabby cat"},
        "coffee.png": {"espresso"},
        "rocket.jpg": {"missile"},
    }
    for name, labels in expected.items():
        best = int(probabilities(read_image(photos / name)).argmax())
        assert directions.names[best] in labels
    assert float(probabilities(Image.new("RGB", (300, 200), "white")).max()) < 0.1
