"""Settings: one frozen tree, seen only by the composition root and the command line (D16).

Where they are read from is `tree`'s business.
"""

import os
import ssl
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ByteSize,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from soup.core.errors import Refused
from soup.db.engines import parsed
from soup.tree import FILE, override, read

RUNTIME = "_SOUP_RUNTIME"  # set by a parent for its workers: the folder they share while they run

LARGEST_PORT = 65_535
Seconds = Annotated[float, Field(gt=0, le=86_400)]
Size = Annotated[ByteSize, Field(ge=0)]
# The environment has no other way to say "not set" than an empty value.
Nothing = BeforeValidator(lambda value: None if value == "" else value)
# YAML reads a bare `off` as false, and a bare `on` as true.
Off = BeforeValidator(lambda value: "off" if value is False else value)
OnOff = BeforeValidator(lambda value: {False: "off", True: "on"}[value] if isinstance(value, bool) else value)


class Section(BaseModel, frozen=True, extra="forbid"):
    """A part of the tree."""

    @model_validator(mode="before")
    @classmethod
    def _said(cls, tree: Any) -> Any:
        """A key without a value, or a section whose keys are all commented out, says nothing."""
        if not isinstance(tree, dict):
            return tree
        return {key: value for key, value in tree.items() if value is not None or key not in cls.model_fields}


class Server(Section):
    """Where soup listens."""

    host: str = Field("127.0.0.1", description="Address to listen on; `0.0.0.0` for all")
    port: int = Field(8080, ge=1, le=LARGEST_PORT, description="TCP port")
    workers: int = Field(
        min(4, os.cpu_count() or 1),
        ge=1,
        le=256,
        description="Processes that answer; one a core, four at most",
    )
    control: str = Field(
        "",
        pattern=r"^((\[[0-9A-Fa-f:.]+\]|[^\s:/\[\]]+):\d{1,5})?$",
        description="Another address, `host:port`, for reports, health and metrics alone; empty: none",
    )
    backlog: int = Field(
        1024, ge=16, le=65_535, description="Connections that may wait to be accepted, and be open"
    )
    stop_seconds: Seconds = Field(30, description="How long a stopping soup lets answers finish")
    drain_seconds: float = Field(
        1,
        ge=0,
        le=3600,
        description="How long of that it goes on accepting, while `/readyz` says that it stops",
    )
    url: str = Field(
        "",
        pattern=r"^(https?://[^\s/?#]+(/[^\s?#]*)?)?$",
        description="How clients reach soup, for links in answers; empty: as they asked",
    )

    @field_validator("control")
    @classmethod
    def _port(cls, control: str) -> str:
        if control and not 0 < int(control.rpartition(":")[2]) <= LARGEST_PORT:
            raise ValueError("a port is a number from 1 to 65535")
        return control


class Auth(Section):
    """Who may do what."""

    mode: Literal["token", "open"] = Field(
        "token", description="`open`: everybody may do everything (test beds)"
    )
    read: Literal["open", "token"] = Field("open", description="`token`: reading a blob needs a token too")


class Join(Section):
    """Mirrors that join by themselves."""

    enabled: bool = Field(default=True, description="Whether mirrors may join; those that have stay")
    token_file: Annotated[Path | None, Nothing] = Field(
        None, description="A file with a secret that lets mirrors join, beside tokens of kind `join`"
    )
    allow_private: bool = Field(
        default=False, description="Whether mirrors may join that have addresses of private networks"
    )
    most: int = Field(1000, ge=0, le=100_000, description="How many mirrors may have joined")


class Cdn(Section):
    """Mirrors and redirects."""

    redirects: bool = Field(default=True, description="Off: soup serves every byte itself")
    silence_seconds: Seconds = Field(40, description="Silence after which a mirror is offline")
    report_seconds: Seconds = Field(30, description="How often mirrors are asked to report")
    error_mirrors: Literal["last_resort", "never", "always"] = Field(
        "last_resort", description="Whether a mirror that reports 3 is chosen"
    )
    report_auth: Literal["token", "none"] = Field(
        "token", description="`none`: anybody may report for any mirror"
    )
    public_list: bool = Field(default=False, description="Show fqdn and status of mirrors to everybody")
    audit: Annotated[Literal["on", "off"], OnOff] = Field(
        "on", description="Whether mirrors are asked from outside, and not chosen where they answer wrongly"
    )
    audit_seconds: Seconds = Field(6, description="How often each mirror is asked")
    ca_file: Annotated[Path | None, Nothing] = Field(
        None, description="Certificate authorities to trust beside the system's when mirrors are asked (PEM)"
    )
    alternates: int = Field(
        2, ge=0, le=8, description="How many other mirrors a redirect names, for clients whose mirror dies"
    )
    sync_slots: int = Field(
        32, ge=1, description="Bodies a worker sends to mirrors at once; more are told to come back"
    )
    join: Join = Join()

    @field_validator("ca_file")
    @classmethod
    def _authorities(cls, file: Path | None) -> Path | None:
        try:
            if file is not None:
                ssl.create_default_context(cafile=file)
        except OSError as error:  # ssl's own errors are some
            raise ValueError(f"{file}: {error.strerror or error}") from error
        return file


class Store(Section):
    """The folder blobs lie in."""

    folder: Annotated[Path | None, Nothing] = Field(
        None, description="Where blobs are; empty: `blobs` in the data folder"
    )
    keep_free: Annotated[Size | None, Nothing] = Field(
        None, description="Room to keep free; empty: 1 GiB, or 1 % where that is less"
    )


class Upload(Section):
    """Bytes that come in."""

    largest: Annotated[Size | None, Nothing] = Field(
        None, description="The largest blob that is taken; empty: no limit"
    )
    slots: int = Field(256, ge=1, description="Uploads a worker takes at once; more are told to come back")
    idle_seconds: Seconds = Field(30, description="Silence after which an upload is cut")


class Serve(Section):
    """Bytes that go out."""

    verify_up_to: Size = Field(
        ByteSize(64 * 1024), description="Blobs up to this size are checked against their digest when served"
    )
    direct_slots: int = Field(
        256, ge=1, description="Bodies a worker sends at once; more are told to come back"
    )
    idle_seconds: Seconds = Field(60, description="Time a client may take to read a piece before it is cut")
    accel: Annotated[Literal["off", "nginx"], Off] = Field(
        "off", description="`nginx`: the nginx in front sends the file"
    )


class Blobs(Section):
    """What becomes of blobs."""

    swept_seconds: Seconds = Field(60, description="How long the bytes of a deleted blob stay")


class Scrub(Section):
    """Bytes are read again, and compared with their digest."""

    bytes_per_second: Size = Field(
        ByteSize(8 << 20), description="How fast kept bytes are read again to find damage; 0: never"
    )


class Feed(Section):
    """The order of all changes."""

    keep_days: float = Field(
        30, gt=0, le=3650, description="How long a deleted blob is remembered for readers"
    )


class Jobs(Section):
    """What soup does unasked."""

    lease_seconds: Seconds = Field(
        10, description="How long a process may be silent before another does the jobs"
    )
    mirrors_sweep_seconds: Seconds = Field(5, description="How often silent mirrors are given status 0")
    mirrors_audit_seconds: Seconds = Field(
        2, description="How often it is looked whose turn it is to be asked from outside"
    )
    blobs_repair_seconds: Seconds = Field(
        5, description="How often damaged blobs are fetched again from a mirror"
    )
    blobs_sweep_seconds: Seconds = Field(30, description="How often bytes of deleted blobs are removed")
    blobs_scrub_seconds: Seconds = Field(
        60, description="How often the scrub goes on, for nine tenths of this time"
    )
    blobs_count_seconds: Seconds = Field(300, description="How often blobs are counted for the metrics")
    feed_trim_seconds: Seconds = Field(3600, description="How often blobs deleted long ago are forgotten")
    tokens_expire_seconds: Seconds = Field(3600, description="How often tokens that have expired are removed")


class Log(Section):
    """What soup says."""

    format: Literal["auto", "json", "console"] = Field(
        "auto", description="`auto`: console on a terminal, else JSON"
    )
    level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="The least that is logged"
    )
    requests: bool = Field(default=False, description="A line for each request")


class Settings(Section):
    """Everything that can be set."""

    data: Path = Field(Path("soup-data"), description="Where soup keeps what it needs to keep")
    database: str = Field("", description="Database URL; empty: SQLite in the data folder")
    server: Server = Server()
    auth: Auth = Auth()
    cdn: Cdn = Cdn()
    store: Store = Store()
    upload: Upload = Upload()
    serve: Serve = Serve()
    blobs: Blobs = Blobs()
    scrub: Scrub = Scrub()
    feed: Feed = Feed()
    jobs: Jobs = Jobs()
    log: Log = Log()

    @field_validator("database")
    @classmethod
    def _known(cls, url: str) -> str:
        try:
            if url:
                parsed(url)
        except Refused as error:
            raise ValueError(str(error)) from error
        return url

    @property
    def database_url(self) -> str:
        """The database, written out."""
        return self.database or f"sqlite:///{self.data.absolute() / 'soup.db'}"

    @property
    def blobs_folder(self) -> Path:
        """The folder of the store, written out."""
        return (self.store.folder or self.data / "blobs").absolute()

    @classmethod
    def load(cls, environment: Mapping[str, str], file: Path | None = None) -> Self:
        """From the file, if there is one, and the environment over it.

        Raises Refused with every fault, a line each.
        """
        named = file or (Path(environment[FILE]) if environment.get(FILE) else None)
        faults: list[str] = []
        tree = read(named, environment, faults) if named else {}
        given = override(tree, environment, faults)
        try:
            settings = cls.model_validate(tree)
        except ValidationError as error:
            faults += [_fault(one, given) for one in error.errors()]
        if faults:
            raise Refused("\n".join(faults))
        return settings


def _fault(error: Any, given: Mapping[str, str]) -> str:
    path = ".".join(map(str, error["loc"]))
    told = [name for where, name in given.items() if f"{where}.".startswith(f"{path}.")]
    name = f"{path} ({', '.join(told)})" if told else path
    if error["type"] == "extra_forbidden":
        close = _close(path)
        return f"{name}: no such setting" + (f", did you mean {close}?" if close else "")
    if error["type"] == "value_error":
        return f"{name}: {error['ctx']['error']}"
    return f"{name}: {error['msg'].lower()}, not {error['input']!r}"


def _close(path: str) -> str | None:
    """The setting that was probably meant: one of this name in another section, or one spelt like it."""
    known = settings()
    same = [name for name in known if name.rpartition(".")[2] == path.rpartition(".")[2]]
    sections = dict.fromkeys(name.rpartition(".")[0] for name in known if "." in name)
    return next(iter(same or get_close_matches(path, [*known, *sections], n=1)), None)


def settings() -> dict[str, tuple[Any, str]]:
    """Every setting by its path, with its default and what it is for."""
    return dict(_within(Settings, ""))


def _within(section: type[Section], path: str) -> Iterator[tuple[str, tuple[Any, str]]]:
    for name, field in section.model_fields.items():
        if isinstance(field.default, Section):
            yield from _within(type(field.default), f"{path}{name}.")
        else:
            yield f"{path}{name}", (field.default, field.description or "")
