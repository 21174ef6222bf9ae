"""Settings: a TOML file, and `SOUP_AGENT_NAME` over it."""

import os
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BeforeValidator,
    ByteSize,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

FILE = Path("/etc/soup-cdn-agent.toml")
PREFIX = "SOUP_AGENT_"

Seconds = Annotated[float, Field(gt=0, le=86_400)]
Size = Annotated[ByteSize, Field(ge=0)]
Nothing = BeforeValidator(lambda value: None if value == "" else value)


def _list(value: Any) -> Any:
    """The environment has no lists: words with spaces or commas between them."""
    return tuple(value.replace(",", " ").split()) if isinstance(value, str) else value


class Refused(Exception):
    """Settings that cannot be right, every fault on a line."""


class Settings(BaseSettings):
    """Everything that can be set."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid")

    core: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_list)] = Field(
        description="URL of soup; several for several cores"
    )
    id: int = Field(gt=0, description="The mirror's id, as soup gave it")
    token: SecretStr = Field(SecretStr(""), description="The mirror's token")
    token_file: Annotated[Path | None, Nothing] = Field(None, description="A file that has the token")
    blobs: Path = Field(Path("/data/blobs"), description="The folder the web server serves")
    web: str = Field(
        "http://127.0.0.1", description="The web server beside the agent, as the agent reaches it"
    )
    ca_file: Annotated[Path | None, Nothing] = Field(
        None, description="Certificate authorities to trust beside the system's"
    )
    interval: Annotated[Seconds | None, Nothing] = Field(
        None, description="Seconds between reports; empty: what the core asks for, and 30 until it has"
    )
    check_seconds: Seconds = Field(10, description="How often a blob is read through the web server")
    access_log: Annotated[tuple[Path, ...], NoDecode, BeforeValidator(_list)] = Field(
        (), description="The web server's access logs, to count what was delivered"
    )
    smallest: Annotated[Size | None, Nothing] = Field(None, description="Smaller blobs are not kept here")
    largest: Annotated[Size | None, Nothing] = Field(None, description="Larger blobs are not kept here")
    reserve: Annotated[Size | None, Nothing] = Field(
        None, description="Room to keep free on the disk; empty: 1 GiB, or 5 % where that is less"
    )
    bandwidth: Size = Field(ByteSize(0), description="Bytes a second to fetch at most; 0: no limit")
    parallel: int = Field(4, ge=1, le=64, description="Large blobs fetched at once")
    bundle_up_to: Size = Field(ByteSize(1 << 20), description="Blobs up to this size are fetched in bundles")
    from_mirrors: bool = Field(
        default=True, description="Fetch large blobs from other mirrors where they have them"
    )
    behind: int = Field(1000, ge=1, description="Blobs that may be missing before the mirror says so")
    strays: Literal["remove", "remove_all", "keep"] = Field(
        "remove",
        description="Blobs in the folder that the core does not have: `remove` them while they are few,"
        " `remove_all`, or `keep` them",
    )
    scrub: Size = Field(
        ByteSize(4 << 20), description="Bytes a second that are read again to find damage; 0: never"
    )
    listen: str = Field(
        "127.0.0.1:9480",
        pattern=r"^(.+:\d{1,5})?$",
        description="Where /metrics and the status are; empty: nowhere",
    )
    log_format: Literal["auto", "json", "console"] = Field(
        "auto", description="`auto`: console on a terminal, else JSON"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="The least that is logged"
    )

    @field_validator("core", "web")
    @classmethod
    def _urls(cls, value: Any) -> Any:
        for url in (value,) if isinstance(value, str) else value:
            if not url.startswith(("http://", "https://")):
                raise ValueError(f"a URL begins with http:// or https://, not {url!r}")
        if not value:
            raise ValueError("at least one URL is wanted")
        if isinstance(value, str):
            return value.rstrip("/")
        return tuple(url.rstrip("/") for url in value)

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if bool(self.token.get_secret_value()) == bool(self.token_file):
            raise ValueError("one of token and token_file is wanted")
        if self.smallest is not None and self.largest is not None and self.smallest > self.largest:
            raise ValueError("smallest is more than largest")
        return self

    @property
    def secret(self) -> str:
        """The token, read anew each time: a file may have another one by now. Raises OSError."""
        if self.token_file is not None:
            return self.token_file.read_text(encoding="utf-8").strip()
        return self.token.get_secret_value()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - the signature is pydantic's
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment over the file, which is given as arguments."""
        return env_settings, init_settings

    @classmethod
    def load(cls, file: Path | None = None) -> Self:
        """From the file, if there is one, and the environment over it. Raises Refused."""
        named = file or (Path(os.environ[f"{PREFIX}CONFIG"]) if os.environ.get(f"{PREFIX}CONFIG") else None)
        try:
            return cls(**_read(named or FILE, wanted=named is not None))
        except ValidationError as error:
            raise Refused("\n".join(_fault(one) for one in error.errors())) from error


def _read(file: Path, *, wanted: bool) -> dict[str, Any]:
    if not wanted and not file.exists():
        return {}
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise Refused(f"{file}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Refused(f"{file}: not TOML: {error}") from error


def _fault(error: Any) -> str:
    name = ".".join(map(str, error["loc"]))
    if error["type"] == "missing":
        return f"{name} is wanted: set it in the file or as {PREFIX}{name.upper()}"
    if error["type"] == "extra_forbidden":
        return f"{name}: no such setting"
    if error["type"] == "value_error":
        return f"{name}: {error['ctx']['error']}" if name else str(error["ctx"]["error"])
    return f"{name}: {error['msg'].lower()}, not {error['input']!r}"
