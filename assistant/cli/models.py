"""``voxsight models``: list, pull and verify what the store holds."""

from typing import Annotated

import typer

from assistant.cli.console import PullBars, make_table, print_json, remarks, results
from assistant.config import load_settings
from assistant.errors import ModelStoreError
from assistant.models import ModelStore

app = typer.Typer(help="List, fetch and verify models.", no_args_is_help=True)

Names = Annotated[
    list[str] | None, typer.Argument(help="Names from the catalogue; all when left out.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


@app.command("list")
def list_models(json: Json = False) -> None:
    """Show every model of the catalogue and whether it is in the cache."""
    store = ModelStore(load_settings())
    rows = [
        {
            "name": spec.name,
            "task": spec.task,
            "licence": spec.licence,
            "size": spec.size,
            "state": store.state(spec.name).value,
            "summary": spec.summary,
        }
        for spec in store.catalogue.values()
    ]
    if json:
        print_json({"folder": str(store.root), "models": rows})
        return
    table = make_table(
        str(store.root), *("name", "state", "MB", "task", "licence"), numbers=("MB",)
    )
    for row in rows:
        megabytes = f"{int(str(row['size'])) / 1e6:,.0f}"
        texts = (str(row[key]) for key in ("name", "state", "task", "licence"))
        name, state, task, licence = texts
        table.add_row(name, state, megabytes, task, licence)
    results.print(table)


@app.command()
def pull(names: Names = None) -> None:
    """Fetch models; what is there and matches its checksum stays."""
    store = ModelStore(load_settings())
    for name in names or list(store.catalogue):
        folder = store.pull(name, PullBars())
        remarks.print(f"{name}: ready in {folder}")


@app.command()
def verify(names: Names = None, json: Json = False) -> None:
    """Read and hash every file of the models in the cache; exit code 2 if one is damaged."""
    store = ModelStore(load_settings())
    wanted = names or [n for n in store.catalogue if store.state(n).value != "absent"]
    problems = {name: [c.problem for c in store.verify(name) if c.problem] for name in wanted}
    if json:
        print_json({"verified": wanted, "problems": {n: p for n, p in problems.items() if p}})
    else:
        for name in wanted:
            results.print(f"{name}: {'; '.join(problems[name]) or 'every byte as expected'}")
    damaged = [name for name in wanted if problems[name]]
    if damaged:
        raise ModelStoreError(
            f"{len(damaged)} of {len(wanted)} models are damaged or incomplete; "
            f"run 'voxsight models pull {' '.join(damaged)}'."
        )
