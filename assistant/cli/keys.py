"""``voxsight keys``: who may use the server."""

from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from assistant.cli.console import make_table, print_json, remarks, results, say

if TYPE_CHECKING:
    # The server's libraries take a moment to import, which other commands need not wait for.
    from assistant.server.keys import Key, KeyFile

app = typer.Typer(
    help="Make, list and revoke the keys of the server; a running one follows at once.",
    no_args_is_help=True,
)

Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
_LIMITS = ("sessions", "requests_per_minute", "audio_minutes_per_hour", "tokens_per_minute")


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="Whose key it is.")],
    sessions: Annotated[int | None, typer.Option(min=1, help="Sessions at the same time.")] = None,
    requests_per_minute: Annotated[
        float | None, typer.Option(min=1, help="Requests per minute.")
    ] = None,
    audio_minutes_per_hour: Annotated[
        float | None, typer.Option(min=0.1, help="Minutes of sound per hour.")
    ] = None,
    tokens_per_minute: Annotated[
        float | None, typer.Option(min=1, help="Tokens of the language model per minute.")
    ] = None,
    json: Json = False,
) -> None:
    """Make a key; it is shown once and kept only as a hash.

    Limits that are left out are the server's own.
    """
    from assistant.server.limits import Limits

    limits = Limits(sessions, requests_per_minute, audio_minutes_per_hour, tokens_per_minute)
    key, secret = _file().create(name, limits)
    if json:
        print_json(_shown(key) | {"key": secret})
        return
    remarks.print(f"The key of '{name}', which is not shown again:", markup=False)
    say(secret)


@app.command("list")
def list_keys(json: Json = False) -> None:
    """Show all keys, the revoked ones too."""
    file = _file()
    keys = [_shown(key) for key in file.keys()]  # noqa: SIM118 - no dictionary
    if json:
        print_json({"file": str(file.path), "keys": keys})
        return
    columns = ("name", "id", "created", "revoked", *_LIMITS)
    table = make_table(str(file.path), *columns, numbers=_LIMITS)
    for key in keys:
        times = (_date(key["created"]), _date(key["revoked"]))
        limits = (_number(key["limits"][name]) for name in _LIMITS)
        table.add_row(key["name"], key["id"], *times, *limits)
    results.print(table)


@app.command()
def revoke(
    name: Annotated[str, typer.Argument(help="Name or id of the key.")], json: Json = False
) -> None:
    """Make a key useless; sessions that run with it go on."""
    key = _file().revoke(name)
    if json:
        print_json(_shown(key))
    else:
        remarks.print(f"Revoked the key '{key.name}' ({key.id}).", markup=False)


def _file() -> "KeyFile":
    from assistant.server.config import load_server_config
    from assistant.server.keys import KeyFile

    return KeyFile(load_server_config().keys_file)


def _shown(key: "Key") -> dict[str, Any]:
    return {name: value for name, value in asdict(key).items() if name != "hash"}


def _date(seconds: int | None) -> str:
    return "" if seconds is None else datetime.fromtimestamp(seconds, UTC).date().isoformat()


def _number(value: float | None) -> str:
    return "server's" if value is None else f"{value:g}"
