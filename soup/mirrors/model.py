"""Mirrors as everybody outside sees them."""

import re
from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from math import inf
from socket import AF_INET6, inet_ntop, inet_pton
from typing import Any, Literal, Self

from soup.core.digest import Digest
from soup.core.errors import BadMirror

Scheme = Literal["https", "http"]
Mode = Literal["full", "pull"]

PORTS: dict[Scheme, int] = {"https": 443, "http": 80}
_NUMBER = re.compile("[0-9]+|0x[0-9a-f]*")
_LABEL = re.compile("[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")


class Status(IntEnum):
    """What a mirror says of itself (S12)."""

    OFFLINE = 0
    OK = 1
    WARNING = 2
    ERROR = 3


WELL = {Status.OK, Status.WARNING}  # who says either is chosen alike


class Fqdn(str):
    """A host name or address as it stands in a URL, in lower case. If it exists, it is valid.

    One address has one spelling: by it mirrors are told apart, and barred.
    """

    __slots__ = ()

    def __new__(cls, text: str) -> Self:
        name = text.lower()
        if text.isascii() and (_is_name(name) or _is_v6(name)):
            return super().__new__(cls, _spelled(name))
        raise BadMirror(f"not a host name: {text[:80]!r}. Only the name: no scheme, port, path or space")


def _is_name(name: str) -> bool:
    labels = name.split(".")
    if _NUMBER.fullmatch(labels[-1]):
        return _is_v4(name)  # as clients read it (URL standard, "ends in a number")
    return len(name) <= 253 and all(_LABEL.fullmatch(label) for label in labels)  # noqa: PLR2004 - RFC 1035


def _is_v4(name: str) -> bool:
    try:
        IPv4Address(name)
    except AddressValueError:
        return False
    return True


def _is_v6(name: str) -> bool:
    if not (name.startswith("[") and name.endswith("]")):
        return False
    try:
        IPv6Address(name[1:-1])
    except AddressValueError:
        return False
    return "%" not in name


def _spelled(name: str) -> str:
    """An address of IPv6 in its shortest form (RFC 5952), anything else as it is."""
    if not name.startswith("["):
        return name
    return f"[{inet_ntop(AF_INET6, inet_pton(AF_INET6, name[1:-1]))}]"


@dataclass(frozen=True, slots=True)
class Report:
    """What a mirror says. Without a status it is a heartbeat where it says nothing else either (S11).

    `synced_to` is the number of the feed up to which it has everything, in the history `epoch`; without it
    the mirror is believed to have every blob (D8). `smallest` and `largest` are the sizes it keeps to, in
    bytes.
    """

    status: Status | None = None
    message: str | None = None
    leaving: bool = False
    epoch: str | None = None
    synced_to: int | None = None
    smallest: int | None = None
    largest: int | None = None
    lacking: frozenset[Digest] = frozenset()
    agent: str | None = None
    disk_free: int | None = None
    disk_total: int | None = None
    boot_id: str | None = None
    totals: dict[str, Any] = field(default_factory=dict)

    @property
    def decides(self) -> tuple[object, ...]:
        """The part of it that decides who is chosen."""
        return (
            self.status, self.leaving, self.epoch, self.synced_to, self.smallest, self.largest, self.lacking
        )  # fmt: skip

    def less_than(self, other: "Report") -> bool:
        """Whether somebody might be sent there by the other, and not by this.

        A mirror that gets on says at each step what it lacks of the blobs that it has just heard of: that is
        no less than before.
        """
        if self.status != other.status and not {self.status, other.status} <= WELL:
            return True
        if (self.leaving, self.epoch, self.smallest, self.largest) != (
            other.leaving, other.epoch, other.smallest, other.largest
        ):  # fmt: skip
            return True
        mine, others = (inf if said.synced_to is None else said.synced_to for said in (self, other))
        return mine < others or (mine == others and not self.lacking <= other.lacking)


HEARTBEAT = Report()


@dataclass(frozen=True, slots=True)
class Terms:
    """What an administrator decides about a mirror."""

    fqdn: Fqdn
    scheme: Scheme
    port: int
    mode: Mode = "full"
    weight: int = 1
    trusted: bool = True
    drained: bool = False

    @property
    def address(self) -> tuple[object, ...]:
        """Where it is asked, and what for: what was found out about one says nothing of another."""
        return self.fqdn, self.scheme, self.port, self.mode


@dataclass(frozen=True, slots=True)
class Mirror:
    """A mirror: its terms, what it said last and when. `said` is None until its first report.

    `joined`: nobody but itself has said that it is one.
    """

    id: int
    terms: Terms
    created_at: datetime
    doubt_reason: str | None = None
    doubt_since: datetime | None = None
    audited_at: datetime | None = None
    said: Report | None = None
    last_seen: datetime | None = None
    joined: bool = False

    @property
    def unproven(self) -> bool:
        """Whether it has nothing to show for itself yet: it joined, and has not passed an audit since."""
        return self.joined and self.audited_at is None

    @property
    def origin(self) -> str:
        """`https://fqdn`, with the port where it is not the scheme's own (S8, C7)."""
        terms = self.terms
        port = "" if terms.port == PORTS[terms.scheme] else f":{terms.port}"
        return f"{terms.scheme}://{terms.fqdn}{port}"


@dataclass(frozen=True, slots=True)
class Bar:
    """An address at which no mirror may join, since when."""

    fqdn: Fqdn
    port: int
    since: datetime


@dataclass(frozen=True, slots=True)
class Delivery:
    """What a mirror has delivered: bytes and requests."""

    bytes: int = 0
    requests: int = 0

    def __add__(self, more: "Delivery") -> "Delivery":
        return Delivery(self.bytes + more.bytes, self.requests + more.requests)


@dataclass(frozen=True, slots=True)
class Delivered:
    """In all, and today (UTC)."""

    ever: Delivery = Delivery()
    today: Delivery = Delivery()


@dataclass(frozen=True, slots=True)
class Counted:
    """The totals of a mirror that have been counted, and of which boot; None where there were none yet."""

    boot: str | None = None
    bytes: int | None = None
    requests: int | None = None

    def grown(self, said: Report) -> "tuple[Delivery, Counted]":
        """What has been delivered since, by what the mirror says now, and what has been counted then.

        Totals grow within a boot and begin at 0 with the next. Less than before is no growth, and where one
        of the two is less, the other is not believed either. What is not said stays as it was.
        """
        totals = said.totals
        if said.boot_id is None or not totals.keys() & {"bytes", "requests"}:
            return Delivery(), self
        same = said.boot_id == self.boot
        before = ((self.bytes or 0), (self.requests or 0)) if same else (0, 0)
        now = totals.get("bytes", before[0]), totals.get("requests", before[1])
        more = (now[0] - before[0], now[1] - before[1])
        return Delivery(*more) if min(more) >= 0 else Delivery(), Counted(said.boot_id, *now)


UNCOUNTED = Counted()


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of asking a mirror from outside: `fault` is what is wrong with it, None where nothing is.

    `silent`: it did not answer, which says something of one that has answered before and of no other (D20).
    """

    mirror: Mirror
    fault: str | None = None
    silent: bool = False
