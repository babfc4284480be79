"""``voxsight doctor``: what is installed, which device, what is cached, what would be fetched."""

import platform
import shutil
import sys
from importlib import metadata
from typing import Annotated, Any

import typer

from assistant.cli.console import make_table, print_json, remarks, results
from assistant.config import Settings, load_settings
from assistant.models import ModelStore, State
from audio.features.dispatch import prepare

_PACKAGES = (
    *("voxsight", "torch", "torchaudio", "torchvision", "transformers", "ctranslate2"),
    *(
        "faster-whisper",
        "open-clip-torch",
        "timm",
        "numba",
        "numba-cuda",
        "onnx",
        "soundfile",
        "av",
        "pillow",
    ),
)
_THERE = (State.READY.value, State.UNVERIFIED.value)
_PROGRAMS = {"espeak-ng": "other phonemes (optional)", "ffmpeg": "not needed; PyAV decodes media"}


def doctor(
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    warm: Annotated[bool, typer.Option(help="Compile the kernels now, not on first use.")] = False,
) -> None:
    """Show what is installed, which device is used, what is cached and what would be fetched."""
    if warm:
        prepare(remarks.print)
    report = examine(load_settings())
    if json:
        print_json(report)
        return
    for title in ("machine", "packages", "programs", "settings"):
        table = make_table(title.capitalize(), "what", "found")
        for key, value in report[title].items():
            table.add_row(str(key), str(value))
        results.print(table, "")
    table = make_table("Models", "name", "state", "MB", numbers=("MB",))
    for row in report["models"]:
        table.add_row(row["name"], row["state"], f"{row['size'] / 1e6:,.0f}")
    results.print(table, "")
    missing = report["would_fetch"]
    megabytes = sum(row["size"] for row in missing) / 1e6
    names = ", ".join(row["name"] for row in missing)
    results.print(f"The demo would fetch {names} ({megabytes:,.0f} MB)." if missing else "Ready.")


def examine(settings: Settings) -> dict[str, Any]:
    """The report as plain values; opens no socket and loads no model."""
    store = ModelStore(settings)
    models = [
        {"name": spec.name, "size": spec.size, "state": store.state(spec.name).value}
        for spec in store.catalogue.values()
    ]
    wanted = {settings.recogniser, settings.language_model, settings.voice, settings.image_encoder}
    wanted.add("sample-photos")
    return {
        "machine": _machine(settings),
        "packages": {name: _version(name) for name in _PACKAGES},
        "programs": {
            name: shutil.which(name) or f"not found: {use}" for name, use in _PROGRAMS.items()
        },
        "settings": {key: str(value) for key, value in settings.model_dump().items()},
        "models": models,
        "would_fetch": [
            row for row in models if row["name"] in wanted and row["state"] not in _THERE
        ],
    }


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _machine(settings: Settings) -> dict[str, Any]:
    import torch

    from audio.features.cpu import is_compiled

    gpu = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "none"
    existing = next(p for p in (settings.cache_dir, *settings.cache_dir.parents) if p.exists())
    return {
        "python": sys.version.split()[0],
        "system": platform.platform(),
        "processor": torch.backends.cpu.get_cpu_capability(),
        "threads": settings.threads,
        "sound features": "compiled" if is_compiled() else "will be compiled on first use",
        "gpu": gpu,
        "cache folder": str(settings.cache_dir),
        "free there": f"{shutil.disk_usage(existing).free / 1e9:,.1f} GB",
    }
