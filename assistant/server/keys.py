"""The keys of the API: made, listed, revoked and found, with only their hashes on the disk."""

import hmac
import json
import os
import secrets
import tempfile
import time
from dataclasses import asdict, dataclass, field, replace
from hashlib import sha256
from pathlib import Path

from filelock import FileLock
from pydantic import TypeAdapter, ValidationError

from assistant.errors import ConfigError
from assistant.server.limits import Limits

PREFIX = "vx-"
_RANDOM_BYTES = 32


@dataclass(frozen=True)
class Key:
    """A key as the file holds it: everything but the secret.

    ``limits`` that are None take the server's defaults. Times are seconds since 1970.
    """

    id: str
    name: str
    hash: str
    created: int
    revoked: int | None = None
    limits: Limits = field(default_factory=Limits)


_KEYS: TypeAdapter[list[Key]] = TypeAdapter(list[Key])


def hash_of(secret: str) -> str:
    """What is kept of a secret.

    A plain SHA-256 is enough: slow or salted hashes protect passwords, which can be guessed, and a
    secret of 256 random bits cannot. Every request is checked, so it has to be fast, too.
    """
    return sha256(secret.encode()).hexdigest()


class KeyFile:
    """The keys in one file, which is read again whenever it has changed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._keys: tuple[Key, ...] = ()
        self._seen: tuple[int, int, int] | None = None

    def keys(self) -> tuple[Key, ...]:
        """All keys, the revoked ones too; ConfigError if the file cannot be read."""
        try:
            stat = self.path.stat()
            seen = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
            if seen != self._seen:
                self._keys = tuple(_KEYS.validate_json(self.path.read_bytes(), strict=False))
                self._seen = seen
        except FileNotFoundError:
            self._keys, self._seen = (), None
        except OSError as error:
            raise ConfigError(f"Cannot read the keys in {self.path}: {error.strerror}.") from None
        except ValidationError:
            raise ConfigError(
                f"Expected the keys that 'voxsight keys' wrote in {self.path}, but the file is "
                "damaged; remove it and create new keys."
            ) from None
        return self._keys

    def active(self) -> tuple[Key, ...]:
        """The keys that open the door."""
        return tuple(key for key in self.keys() if key.revoked is None)

    def find(self, secret: str) -> Key | None:
        """The active key of a secret, or None; takes as long whichever key it is."""
        offered, found = hash_of(secret), None
        for key in self.active():
            if hmac.compare_digest(key.hash, offered):
                found = key
        return found

    def create(self, name: str, limits: Limits | None = None) -> tuple[Key, str]:
        """A new key and its secret, which is nowhere kept; ConfigError if the name is taken."""
        secret = PREFIX + secrets.token_urlsafe(_RANDOM_BYTES)
        key = Key(
            f"key_{secrets.token_hex(6)}",
            _checked_name(name),
            hash_of(secret),
            int(time.time()),
            limits=limits or Limits(),
        )
        with self._changing():
            if any(key.name == name for key in self.active()):
                raise ConfigError(
                    f"There is a key named '{name}' already; revoke it or take another name."
                )
            self._write((*self.keys(), key))
        return key, secret

    def revoke(self, name_or_id: str) -> Key:
        """Make an active key useless, for a running server too; ConfigError if there is none."""
        with self._changing():
            keys = self.keys()
            for number, key in enumerate(keys):
                if key.revoked is None and name_or_id in (key.name, key.id):
                    gone = replace(key, revoked=int(time.time()))
                    self._write((*keys[:number], gone, *keys[number + 1 :]))
                    return gone
        names = ", ".join(key.name for key in self.active()) or "none"
        raise ConfigError(f"There is no active key '{name_or_id}'; the active ones are: {names}.")

    def _changing(self) -> FileLock:
        """Held by the one process that changes the file."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise ConfigError(f"Cannot make {self.path.parent}: {error.strerror}.") from None
        return FileLock(self.path.with_name(self.path.name + ".lock"), mode=0o600)

    def _write(self, keys: tuple[Key, ...]) -> None:
        text = json.dumps([asdict(key) for key in keys], indent=1)
        try:
            # mkstemp gives mode 600 from the first moment on.
            handle, scratch = tempfile.mkstemp(prefix=".keys-", dir=self.path.parent)
            try:
                with os.fdopen(handle, "w", encoding="utf-8") as file:
                    file.write(text + "\n")
                    file.flush()
                    os.fsync(file.fileno())
                Path(scratch).replace(self.path)
            finally:
                Path(scratch).unlink(missing_ok=True)
        except OSError as error:
            raise ConfigError(f"Cannot write {self.path}: {error.strerror}.") from None


def _checked_name(name: str) -> str:
    if not 0 < len(name) <= 64 or not name.isprintable() or name != name.strip():
        raise ConfigError(f"Expected a name of 1 to 64 printable characters, got {name!r}.")
    return name
