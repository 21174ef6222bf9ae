"""What a PATCH of a mirror says, wherever it says it: query, JSON or form (S11, S12)."""

import json
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar
from urllib.parse import parse_qsl

import msgspec
from msgspec import Meta

from soup.core.digest import Digest
from soup.core.errors import BadReport, BodyRefused, Invalid
from soup.mirrors.model import Report, Status

LARGEST = 256 * 1024  # bytes of a report: a thousand digests and room to spare
TERMS = frozenset({"fqdn", "scheme", "port", "mode", "weight", "trusted", "drained"})
_BODIES = {
    b"application/json",
    b"application/x-www-form-urlencoded",
    b"text/plain",
    b"application/octet-stream",
    b"",
}

S = TypeVar("S")
_Count = Annotated[int, Meta(ge=0, le=(1 << 62))]
_Word = Annotated[str, Meta(max_length=200)]


class _Holds(msgspec.Struct):
    smallest: _Count | None = None
    largest: _Count | None = None

    def __post_init__(self) -> None:
        if self.smallest is not None and self.largest is not None and self.smallest > self.largest:
            raise ValueError("smallest is more than largest")


class _Room(msgspec.Struct):
    free: _Count | None = None
    total: _Count | None = None


class _Said(msgspec.Struct):
    """Fields soup does not know are passed over: a newer agent must be able to talk to an older core."""

    message: Annotated[str, Meta(max_length=1000)] | None = None
    leaving: bool = False
    epoch: _Word | None = None
    synced_to: _Count | None = None
    holds: _Holds | None = None
    lacking: Annotated[list[Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]], Meta(max_length=1000)] | None = (
        None
    )
    agent: _Word | None = None
    disk: _Room | None = None
    boot_id: _Word | None = None
    totals: dict[str, _Count] | None = None

    def __post_init__(self) -> None:
        words = (self.message, self.epoch, self.agent, self.boot_id, *(self.totals or ()))
        if any("\0" in word for word in words if word):
            raise ValueError("a text has a NUL in it, which no table could hold")


@dataclass(frozen=True, slots=True)
class Patch:
    """The fields of a PATCH, as they were sent. `texts`: some as text, in a query or a form."""

    fields: dict[str, Any]
    texts: bool = False

    @property
    def changes(self) -> bool:
        """Whether it asks for something only an administrator may."""
        return not TERMS.isdisjoint(self.fields)

    def report(self) -> Report:
        """What it says as a report. Raises BadReport."""
        fields = self.fields
        status = _status(fields["status"]) if "status" in fields else None
        rest = {key: value for key, value in fields.items() if key != "status"}
        said = converted(rest, _Said, BadReport, strict=not self.texts)
        holds, disk = said.holds or _Holds(), said.disk or _Room()
        return Report(
            status,
            said.message,
            said.leaving,
            said.epoch,
            said.synced_to,
            holds.smallest,
            holds.largest,
            frozenset(map(Digest, said.lacking or ())),
            said.agent,
            disk.free,
            disk.total,
            said.boot_id,
            said.totals or {},
        )


def converted(fields: dict[str, Any], kind: type[S], error: type[Invalid], *, strict: bool = True) -> S:
    """These fields as a value of a kind; not `strict`: text that is one too. Raises `error` where not."""
    try:
        return msgspec.convert(fields, kind, strict=strict)
    except msgspec.ValidationError as fault:
        raise error(str(fault)) from fault


def parse(query: bytes, media_type: bytes, body: bytes) -> Patch:
    """All that a PATCH says.

    Raises BadReport where it contradicts itself, BodyRefused for a body of another kind.
    """
    fields = _pairs(query)
    texts = bool(fields) or not _is_json(media_type, body)
    for key, value in _body(media_type, body).items():
        if key in fields and not _same(key, fields[key], value):
            raise BadReport(f"{key} is {fields[key]!r} in the query and {value!r} in the body")
        fields[key] = value
    return Patch(fields, texts)


def _same(key: str, one: Any, other: Any) -> bool:
    return one == other or (key == "status" and _status(one) == _status(other))


def _body(media_type: bytes, body: bytes) -> dict[str, Any]:
    if media_type not in _BODIES and not media_type.endswith(b"+json"):
        raise BodyRefused("a report is JSON, a form (application/x-www-form-urlencoded), or nothing at all")
    if not body.strip():
        return {}
    return _json(body) if _is_json(media_type, body) else _pairs(body)


def _is_json(media_type: bytes, body: bytes) -> bool:
    # curl -d says it sends a form, whatever it sends
    return media_type.endswith(b"json") or body.lstrip()[:1] in {b"{", b"["}


def _json(body: bytes) -> dict[str, Any]:
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len({key for key, _ in pairs}) < len(pairs):
            raise BadReport("a field stands in it twice")
        return dict(pairs)

    try:
        msgspec.json.decode(body)  # takes UTF-8 only, and no halves of a character: no table could hold them
        found = json.loads(body, object_pairs_hook=once)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise BadReport(f"not JSON: {error}") from error
    if not isinstance(found, dict):
        raise BadReport("a JSON object is wanted")
    return found


def _pairs(text: bytes) -> dict[str, Any]:
    try:
        pairs = parse_qsl(text.decode(), keep_blank_values=True, errors="strict", max_num_fields=100)
    except ValueError as error:
        raise BadReport("a query or form that cannot be read") from error
    if len({key for key, _ in pairs}) < len(pairs):
        raise BadReport("a field stands in it twice")
    return dict(pairs)


def _status(value: object) -> Status:
    """0 to 3, as a number or as text. 1.0, true, "" and "01" are none of them (S12)."""
    if isinstance(value, str) and value in {"0", "1", "2", "3"}:
        return Status(int(value))
    if type(value) is int and 0 <= value <= max(Status):
        return Status(value)
    raise BadReport(f"status is 0, 1, 2 or 3, not {json.dumps(value)[:40]}")
