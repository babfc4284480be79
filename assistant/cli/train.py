"""``voxsight train-adapter``: improves the joint between encoder and language model."""

import shlex
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
        command=_command(data, out, held_out, seed),
        training_data=note or f"{data.resolve().name}, {held_out} pictures held out",
        held_out=held_out,
        seed=seed,
    )
    with counted("Encoding pictures", 1) as advance:
        stages: dict[str, tuple[int, int]] = {}

        def step(stage: str, done: int, total: int) -> None:
            before, _ = stages.get(stage, (0, 0))
            stages[stage] = (done, total)
            advance(done - before, sum(expected for _, expected in stages.values()))

        result = train_dictionary(options, models.encoder, models.decoder, read_image, step)
    table = make_table("On the validation pictures", "figure", "value", numbers=("value",))
    for name, value in result.measured.items():
        table.add_row(name.replace("_", " "), f"{value:.3f}")
    results.print(table)
    say(f"Adapter: {result.path}")
    if json:
        print_json({"adapter": str(result.path), **result.measured})


def _command(data: Path, out: Path, held_out: int, seed: int) -> str:
    """The command for the file's header; folders by name only, it is nobody's business where."""
    options = ("--data", data.resolve().name, "--out", out.name)
    numbers = ("--held-out", str(held_out), "--seed", str(seed))
    return shlex.join(("voxsight", "train-adapter", *options, *numbers))
