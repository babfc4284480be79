"""``voxsight train-adapter``: improves the joint between encoder and language model."""

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from assistant.cli.console import PullBars, counted, make_table, print_json, remarks, results, say
from assistant.config import load_settings
from assistant.loading import Models


def train_adapter(
    data: Annotated[Path, typer.Option(help="Folder of labelled pictures; see the README.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Adapter file to write.")],
    work: Annotated[
        Path | None, typer.Option(help="Keeps features, so that a stopped run goes on.")
    ] = None,
    held_out: Annotated[int, typer.Option(help="Pictures that are never looked at.")] = 160,
    seed: Annotated[int, typer.Option(help="Of the split and of all made pictures.")] = 0,
    note: Annotated[str, typer.Option(help="What the pictures are, for the file's header.")] = "",
    encoder: Annotated[str | None, typer.Option(help="Image encoder.")] = None,
    language_model: Annotated[str | None, typer.Option(help="Language model.")] = None,
    json: Annotated[bool, typer.Option("--json", help="End with one line of JSON.")] = False,
) -> None:
    """Fit what an adapter knows of pictures: whether, what, where, how sure, and a second thing."""
    from fusion.train import TrainOptions, train_dictionary
    from vision.image import read_image

    settings = load_settings(image_encoder=encoder, language_model=language_model)
    models = Models(settings, PullBars(), remarks.print)
    options = TrainOptions(
        data=data,
        output=out,
        work=work or settings.cache_dir / "training",
        # The folder's name only: a header must not tell where somebody keeps their pictures.
        command=shlex.join(["voxsight", *_without_folders(sys.argv[1:])]),
        training_data=note or f"{data.resolve().name}, {held_out} pictures held out",
        held_out=held_out,
        seed=seed,
    )
    with counted("Encoding pictures", 1) as advance:
        seen: dict[str, int] = {}

        def step(what: str, done: int, total: int) -> None:
            advance(done - seen.get(what, 0), total)
            seen[what] = done

        result = train_dictionary(options, models.encoder, models.decoder, read_image, step)
    table = make_table("On the validation pictures", "figure", "value", numbers=("value",))
    for name, value in result.measured.items():
        table.add_row(name.replace("_", " "), f"{value:.3f}")
    results.print(table)
    say(f"Adapter: {result.path}")
    if json:
        print_json({"adapter": str(result.path), **result.measured})


def _without_folders(arguments: list[str]) -> list[str]:
    return [Path(text).name if "/" in text else text for text in arguments]
