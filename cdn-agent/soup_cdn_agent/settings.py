"""Settings: a TOML file, and `SOUP_AGENT_NAME` over it."""

import os
import re
import shlex
import tomllib
from contextlib import suppress
from ipaddress import IPv6Address
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BeforeValidator,
    ByteSize,
    Field,
    PlainValidator,
    SecretStr,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

FILE = Path("/etc/soup-cdn-agent.toml")
PREFIX = "SOUP_AGENT_"

Seconds = Annotated[float, Field(gt=0, le=86_400)]
Size = Annotated[ByteSize, Field(ge=0)]
Nothing = BeforeValidator(lambda value: None if value == "" else value)
_SIZE = TypeAdapter(Size)
_PERCENT = re.compile(r"([0-9]{1,2}(?:\.[0-9]+)?) ?%").fullmatch


def _list(value: Any) -> Any:
    """The environment has no lists: words with spaces or commas between them."""
    return tuple(value.replace(",", " ").split()) if isinstance(value, str) else value


def _reserve(value: Any) -> Any:
    """Bytes, or the share of the disk that `15%` is, as a float."""
    if value is None or value == "":
        return None
    if isinstance(value, str) and "%" in value:
        if share := _PERCENT(value):
            return float(share[1]) / 100
    else:
        with suppress(ValidationError):
            return int(_SIZE.validate_python(value))
    raise ValueError(f"neither a size such as 10GiB nor a share such as 15%: {value!r}")


def _is_v6(text: str) -> bool:
    try:
        IPv6Address(text)
    except ValueError:
        return False
    return True


def _words(value: Any) -> Any:
    """A command as a shell reads it."""
    return tuple(shlex.split(value)) if isinstance(value, str) else value


class Refused(Exception):
    """Settings that cannot be right, every fault on a line."""


class Settings(BaseSettings):
    """Everything that can be set."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid")

    core: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_list)] = Field(
        description="URL of soup; several for several cores"
    )
    control: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_list)] = Field(
        (), description="URL of its listener for reports (`server.control`), or several; empty: as `core`"
    )
    id: Annotated[int | None, Nothing] = Field(None, gt=0, description="The mirror's id, as soup gave it")
    token: SecretStr = Field(SecretStr(""), description="The mirror's token")
    token_file: Annotated[Path | None, Nothing] = Field(None, description="A file that has the token")
    join_token: SecretStr = Field(
        SecretStr(""), description="Instead of an id and a token: the token to join by"
    )
    join_token_file: Annotated[Path | None, Nothing] = Field(
        None, description="A file that has the token to join by"
    )
    fqdn: str = Field(
        "",
        pattern=r"^(?:[^\s:/@\[\]]+|\[[0-9A-Fa-f:.]+\])?$",
        description="Host of the mirror in URLs, to join as; empty: the address by which the core is reached",
    )
    scheme: Literal["https", "http"] = Field("https", description="Scheme of the mirror in URLs, to join as")
    port: Annotated[int | None, Nothing] = Field(
        None, ge=1, le=65_535, description="Its port, to join as; empty: the scheme's own"
    )
    mode: Literal["full", "pull"] = Field(
        "full", description="`full`: every blob is kept here; `pull`: what clients ask for"
    )
    blobs: Path = Field(Path("/data/blobs"), description="The folder the web server serves")
    web: str = Field(
        "http://127.0.0.1", description="The web server beside the agent, as the agent reaches it"
    )
    beside: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_words)] = Field(
        (), description="Command of the web server, to run it as a child; empty: somebody else does"
    )
    beside_stop: Literal["QUIT", "WINCH", "TERM"] = Field(
        "QUIT", description="Signal by which it ends gracefully: `QUIT` for nginx, `WINCH` for Apache"
    )
    beside_reload: Literal["HUP", "USR1"] = Field(
        "HUP", description="What it is sent when the agent is sent a HUP: `HUP` for nginx, `USR1` for Apache"
    )
    stop_seconds: Seconds = Field(
        8,
        description="How long answers may go on when agent and web server are told to end",
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
    reserve: Annotated[int | float | None, PlainValidator(_reserve)] = Field(
        None,
        description="Room to keep free on the disk, a size or `15%`; empty: 1 GiB, or 5 % if that is less",
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
    pull_listen: str = Field(
        "127.0.0.1:9481",
        pattern=r"^.+:\d{1,5}$",
        description="In mode `pull`: where the web server passes requests for what is not here",
    )
    pulls: int = Field(
        32, ge=1, le=1000, description="In mode `pull`: blobs fetched at once; above it clients get a 503"
    )
    pull_keep_seconds: float = Field(
        60,
        ge=0,
        le=86_400,
        description="In mode `pull`: what came or was served in this time does not make room for others",
    )
    pull_idle_seconds: Seconds = Field(
        60, description="In mode `pull`: a client that takes nothing for so long is cut off"
    )
    log_format: Literal["auto", "json", "console"] = Field(
        "auto", description="`auto`: console on a terminal, else JSON"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="The least that is logged"
    )

    @field_validator("fqdn", mode="before")
    @classmethod
    def _in_brackets(cls, value: Any) -> Any:
        """An address of IPv6 as it stands in a URL: Kubernetes tells a pod its node's without brackets."""
        return f"[{value}]" if isinstance(value, str) and _is_v6(value) else value

    @field_validator("core", "control", "web")
    @classmethod
    def _urls(cls, value: Any, told: ValidationInfo) -> Any:
        for url in (value,) if isinstance(value, str) else value:
            if not url.startswith(("http://", "https://")):
                raise ValueError(f"a URL begins with http:// or https://, not {url!r}")
        if not value and told.field_name != "control":
            raise ValueError("at least one URL is wanted")
        if isinstance(value, str):
            return value.rstrip("/")
        return tuple(url.rstrip("/") for url in value)

    @model_validator(mode="after")
    def _agree(self) -> Self:
        own = [self.id, self.token.get_secret_value(), self.token_file]
        joins = [self.join_token.get_secret_value(), self.join_token_file]
        if any(joins) and any(own):
            raise ValueError("id and token, or join_token: a mirror was added, or it joins")
        if all(joins):
            raise ValueError("one of join_token and join_token_file is wanted")
        if not any(joins) and self.id is None:
            raise ValueError(f"id is wanted, or join_token: set it in the file or as {PREFIX}ID")
        if not any(joins) and bool(own[1]) == bool(own[2]):
            raise ValueError("one of token and token_file is wanted")
        if self.smallest is not None and self.largest is not None and self.smallest > self.largest:
            raise ValueError("smallest is more than largest")
        return self

    @property
    def secret(self) -> str:
        """The token, or the one to join by, read anew each time: a file may have another one by now.

        Raises OSError, ValueError.
        """
        file = self.token_file or self.join_token_file
        if file is not None:
            return file.read_text(encoding="utf-8").strip()
        return self.token.get_secret_value() or self.join_token.get_secret_value()

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
    def load(cls, file: Path | None = None, beside: str | None = None) -> Self:
        """From the file, if there is one, the environment over it, and over that the words of the command.

        Raises Refused.
        """
        named = file or (Path(os.environ[f"{PREFIX}CONFIG"]) if os.environ.get(f"{PREFIX}CONFIG") else None)
        try:
            settings = cls(**_read(named or FILE, wanted=named is not None))
            return settings.model_copy(update={"beside": _words(beside)}) if beside else settings
        except ValidationError as error:
            raise Refused("\n".join(_fault(one) for one in error.errors())) from error
        except ValueError as error:
            raise Refused(f"beside: {error}") from error


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
