"""Settings out of a TOML file and the environment, for any class of settings."""

import os
import tomllib
from collections.abc import Collection
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError
from pydantic_settings import BaseSettings

from assistant.errors import ConfigError

S = TypeVar("S", bound=BaseSettings)


def load(
    kind: type[S],
    file: Path | None,
    overrides: dict[str, Any],
    *,
    noun: str = "setting",
    elsewhere: Collection[str] = (),
) -> S:
    """Settings from, in rising priority: defaults, a TOML file, the environment, ``overrides``.

    Args:
        kind: the class, with an ``env_prefix``.
        file: the TOML file; without it, the variable PREFIX_CONFIG may name one.
        overrides: values by name; None counts as not given.
        noun: what messages call one of the settings.
        elsewhere: prefixes of variables that others read.

    Raises:
        ConfigError: an unknown key, a value out of range, a file that cannot be read.
    """
    prefix = kind.model_config.get("env_prefix", "")
    # It is read before the settings exist, so it is no setting itself.
    names_file = prefix + "CONFIG"
    known = {(prefix + name).upper() for name in kind.model_fields} | {names_file}
    _refuse_unknown_variables(prefix, known, tuple(elsewhere))
    if file is None and names_file in os.environ:
        file = Path(os.environ[names_file])
    values = _read_toml(file) if file else {}
    values = {k: v for k, v in values.items() if (prefix + k).upper() not in os.environ}
    values |= {key: value for key, value in overrides.items() if value is not None}
    try:
        return kind(**values)
    except ValidationError as error:
        raise ConfigError(_one_sentence(error, noun, kind.model_fields)) from None


def _refuse_unknown_variables(prefix: str, known: set[str], elsewhere: tuple[str, ...]) -> None:
    # pydantic-settings ignores unknown variables, so a misspelt one would silently do nothing.
    ours = {name for name in os.environ if name.startswith(prefix)}
    unknown = sorted(name for name in ours - known if not name.startswith(elsewhere))
    if unknown:
        raise ConfigError(
            f"Unknown environment variable {unknown[0]}; the known ones are "
            f"{', '.join(sorted(known))}."
        )


def _read_toml(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"Cannot read the settings file {file}: {error.strerror}.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"The settings file {file} is not valid TOML: {error}.") from None


def _one_sentence(error: ValidationError, noun: str, known: Collection[str]) -> str:
    first = error.errors()[0]
    name = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return f"Unknown {noun} '{name}'; the known ones are {', '.join(known)}."
    return f"{noun.capitalize()} '{name}' cannot be {first['input']!r}: {first['msg']}."
