"""Settings of the server, from the environment or a file, checked once at the border."""

from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any

import platformdirs
from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from assistant import settings_file
from assistant.config import SERVER_PREFIX

Names = Annotated[tuple[str, ...], NoDecode]


class ServerConfig(BaseSettings):
    """All settings of the server. Each can be set as ``VOXSIGHT_SERVER_<NAME>`` or in a TOML file.

    Lists are comma-separated in the environment.
    """

    model_config = SettingsConfigDict(env_prefix=SERVER_PREFIX, extra="forbid", frozen=True)

    # Where it listens, and for whom
    host: str = Field("127.0.0.1", min_length=1, description="Address to listen on.")
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    keys_file: Path = Field(
        default_factory=lambda: Path(platformdirs.user_config_dir("voxsight")) / "keys.json",
        description="Where 'voxsight keys' keeps the hashes of the keys.",
    )
    allowed_origins: Names = Field(
        (), description="Origins of web pages that may call, beside the server's own."
    )
    allowed_hosts: Names = Field(
        (), description="Names that clients may call the server by, beside its address."
    )
    token_s: int = Field(60, ge=10, le=7200, description="Life of a client secret, if not asked.")
    max_token_s: int = Field(600, ge=10, le=7200, description="Longest life of a client secret.")
    max_tokens_waiting: int = Field(1000, ge=1, description="Client secrets that wait for use.")

    # Limits of one key, unless the key has its own
    key_sessions: int = Field(4, ge=1, description="Sessions of one key at the same time.")
    key_requests_per_minute: int = Field(300, ge=1, description="Requests of one key.")
    key_audio_minutes_per_hour: float = Field(240.0, gt=0, description="Sound of one key.")
    key_tokens_per_minute: int = Field(60_000, ge=1, description="Tokens of one key.")

    # Limits of the server
    max_sessions: int = Field(8, ge=1, description="Realtime sessions at the same time.")
    max_session_memory_bytes: int = Field(
        4 * 2**30, gt=0, description="Memory of all sessions together, as estimated."
    )
    max_requests: int = Field(4, ge=1, description="HTTP requests that are worked on at once.")
    max_waiting_requests: int = Field(16, ge=0, description="HTTP requests that wait for that.")
    max_dubs_waiting: int = Field(4, ge=1, description="Films that wait to be dubbed.")
    dub_keep_s: float = Field(3600.0, gt=0, description="Dubs are kept so long after they end.")
    retry_after_s: int = Field(5, ge=1, description="When a client that was refused may return.")
    max_connections: int = Field(256, ge=1, description="Open connections of all kinds.")

    # Sizes
    max_upload_bytes: int = Field(25 * 2**20, gt=0, description="Largest file of an upload.")
    max_json_bytes: int = Field(32 * 2**20, gt=0, description="Largest JSON body.")
    max_message_bytes: int = Field(16 * 2**20, gt=0, description="Largest WebSocket message.")
    max_film_bytes: int = Field(512 * 2**20, gt=0, description="Largest film to be dubbed.")
    max_audio_s: float = Field(2 * 3600.0, gt=0, description="Longest recording, decoded.")
    max_text_chars: int = Field(100_000, gt=0, description="Longest text of one request.")
    upload_idle_s: float = Field(20.0, gt=0, description="A body may pause for so long.")

    max_conversation_tokens: int = Field(
        4096, ge=256, description="Longest conversation that the language model remembers."
    )

    # Connections
    send_buffer_bytes: int = Field(8 * 2**20, gt=0, description="What may wait for one client.")
    slow_reader_s: float = Field(10.0, gt=0, description="A client that reads nothing is closed.")
    ping_interval_s: float = Field(20.0, gt=0, description="A WebSocket is pinged so often.")
    ping_timeout_s: float = Field(20.0, gt=0, description="A pong is awaited for so long.")
    max_session_s: float = Field(3600.0, gt=0, description="Longest realtime session.")
    drain_s: float = Field(
        20.0, ge=0, le=25, description="What runs may take so long after a signal to stop."
    )

    # What it does for whom
    allow_remote_urls: bool = Field(
        False, description="Fetch http(s) URLs of public addresses that a request names."
    )
    log_text: bool = Field(False, description="Write speech and text into the log, too.")

    @field_validator("allowed_origins", "allowed_hosts", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("allowed_origins")
    @classmethod
    def _origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for origin in value:
            scheme, separator, host = origin.partition("://")
            if scheme not in ("http", "https") or not separator or not host or "/" in host:
                raise ValueError(
                    f"expected origins such as 'https://example.org' without a path, got '{origin}'"
                )
        return tuple(origin.lower() for origin in value)

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach the server."""
        if self.host == "localhost":
            return True
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return False


def load_server_config(file: Path | None = None, **overrides: Any) -> ServerConfig:
    """Settings from, in rising priority: defaults, a TOML file, the environment, ``overrides``.

    An override of None counts as not given. Without ``file``, ``VOXSIGHT_SERVER_CONFIG`` may name
    one.

    Raises:
        ConfigError: an unknown key, a value out of range, a file that cannot be read.
    """
    return settings_file.load(ServerConfig, file, overrides, noun="server setting")
