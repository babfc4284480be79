"""What the commands share: remarks and progress on standard error, results on standard output."""

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Table

from assistant.fetch import Progress as BytesCame
from assistant.models import PullProgress

#: Progress and remarks go here, so that standard output holds results only.
remarks = Console(stderr=True, highlight=False)
results = Console(highlight=False, soft_wrap=True)


def print_json(values: Mapping[str, Any]) -> None:
    """Prints one line of JSON, by convention the last line of a ``--json`` command."""
    sys.stdout.write(json.dumps(values, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def say(text: str, end: str = "\n") -> None:
    """Prints a result at once, without markup or wrapping."""
    sys.stdout.write(text + end)
    sys.stdout.flush()


def make_table(title: str, *columns: str, numbers: tuple[str, ...] = ()) -> Table:
    """A table with a title; the columns named in ``numbers`` are set flush right."""
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    for column in columns:
        table.add_column(
            column, justify="right" if column in numbers else "left", no_wrap=column == "name"
        )
    return table


def stage_table(stages_ms: Mapping[str, float]) -> Table:
    """What each stage took, in milliseconds."""
    table = make_table("What took the time", "stage", "ms", numbers=("ms",))
    for stage, milliseconds in stages_ms.items():
        table.add_row(stage.replace("_", " "), f"{milliseconds:,.0f}")
    return table


class PullBars(PullProgress):
    """A progress bar in bytes for each model that is downloaded."""

    @contextmanager
    def model(self, name: str, total_bytes: int) -> Iterator[BytesCame]:
        """Shows the bar while the model comes."""
        columns = (
            TextColumn("{task.description}"),
            *(BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn()),
        )
        with Progress(*columns, console=remarks) as bars:
            task = bars.add_task(f"Fetching {name}", total=total_bytes)
            yield lambda count: bars.advance(task, count)
            bars.update(task, completed=total_bytes)


class Advance(Protocol):
    """Moves a bar on by ``count`` steps; ``total`` corrects how many there are."""

    def __call__(self, count: int, total: int | None = None) -> None:
        """Moves the bar."""
        ...


@contextmanager
def counted(what: str, total: int) -> Iterator[Advance]:
    """A progress bar over ``total`` steps, with the time that is left."""
    columns = (
        TextColumn("{task.description}"),
        *(BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()),
    )
    with Progress(*columns, console=remarks) as bars:
        task = bars.add_task(what, total=total)

        def advance(count: int, total: int | None = None) -> None:
            bars.update(task, advance=count, total=total)

        yield advance
