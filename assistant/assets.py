"""Finds the files that ship with the product: prompts, adapter weights, the model catalogue."""

from pathlib import Path

from assistant.errors import VoxsightError

_HERE = Path(__file__).resolve().parent


def asset(name: str) -> Path:
    """Path of the shipped file ``name``, e.g. ``"models.toml"``.

    A wheel carries the assets inside the package, a checkout keeps them beside it.

    Raises:
        VoxsightError: the installation lacks the file.
    """
    for folder in (_HERE / "_assets", _HERE.parent / "assets"):
        path = folder / name
        if path.exists():
            return path
    raise VoxsightError(
        f"The installation lacks its own file assets/{name}; install voxsight again."
    )
