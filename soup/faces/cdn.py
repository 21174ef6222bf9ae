"""/api/cdn: mirrors."""

from dataclasses import dataclass, replace
from typing import Annotated, Any

from litestar import Request, Router, delete, patch, post
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody, QueryParameter
from litestar.response import Response
from msgspec import UNSET, Meta, Struct, UnsetType

from soup.access.model import Kind
from soup.blobs.service import Blobs
from soup.core.clock import text, utc_now
from soup.core.errors import BadBody, BadMirror, Denied, MirrorUnknown
from soup.faces import body, report
from soup.faces.auth import Doors, may
from soup.faces.look import look
from soup.faces.manners import Manners
from soup.mirrors.model import PORTS, Delivery, Fqdn, Mode, Report, Scheme, Terms
from soup.mirrors.service import Mirrors, View

Json = dict[str, Any]
Asked = Request[Any, Any, Any]
Port = Annotated[int, Meta(ge=1, le=65_535)]
Weight = Annotated[int, Meta(ge=1, le=1000)]
Bar = Annotated[bool, QueryParameter(description="Whether a mirror may join there no more")]
LARGEST_ID = (1 << 31) - 1


@dataclass(frozen=True, slots=True)
class Desk:
    """All that a report needs, in one: several cost the framework more time than a report costs us."""

    mirrors: Mirrors
    blobs: Blobs
    doors: Doors
    manners: Manners


class NewMirror(Struct, forbid_unknown_fields=True):
    """What a new mirror is. `port` is the scheme's own where it is not given."""

    fqdn: str
    scheme: Scheme = "https"
    port: Port | None = None
    mode: Mode = "full"
    weight: Weight = 1
    trusted: bool = True
    drained: bool = False


class Change(Struct, forbid_unknown_fields=True):
    """What an administrator may change of a mirror; what is not there stays."""

    fqdn: str | UnsetType = UNSET
    scheme: Scheme | UnsetType = UNSET
    port: Port | UnsetType | None = UNSET
    mode: Mode | UnsetType = UNSET
    weight: Weight | UnsetType = UNSET
    trusted: bool | UnsetType = UNSET
    drained: bool | UnsetType = UNSET

    def applied(self, terms: Terms) -> Terms:
        """These terms, changed. A port that was the scheme's own follows the scheme."""
        asked = {
            name: value for name in self.__struct_fields__ if (value := getattr(self, name)) is not UNSET
        }
        if "fqdn" in asked:
            asked["fqdn"] = Fqdn(asked["fqdn"])
        changed = replace(terms, **{name: value for name, value in asked.items() if name != "port"})
        if asked.get("port") is not None:
            return replace(changed, port=asked["port"])
        if "port" in asked or terms.port == PORTS[terms.scheme]:
            return replace(changed, port=PORTS[changed.scheme])
        return changed


def shown(view: View) -> Json:
    """A mirror as lists show it."""
    mirror, terms = view.mirror, view.mirror.terms
    said = mirror.said or Report()
    holds = {"smallest": said.smallest, "largest": said.largest}
    doubt = {"since": text(mirror.doubt_since), "reason": mirror.doubt_reason}
    return {
        "id": mirror.id,
        "fqdn": terms.fqdn,
        "scheme": terms.scheme,
        "port": terms.port,
        "url": mirror.origin,
        "status": int(said.status or 0),
        "last_seen": text(mirror.last_seen),
        "online": view.online,
        "why": view.why,
        "message": said.message,
        "mode": terms.mode,
        "weight": terms.weight,
        "trusted": terms.trusted,
        "drained": terms.drained,
        "doubt": doubt if mirror.doubt_reason is not None else None,
        "audited_at": text(mirror.audited_at),
        "joined": mirror.joined,
        "leaving": said.leaving,
        "epoch": said.epoch,
        "synced_to": said.synced_to,
        "holds": holds if any(limit is not None for limit in holds.values()) else None,
        "lacking": len(said.lacking),
        "agent": said.agent,
        "disk": {"free": said.disk_free, "total": said.disk_total} if said.disk_total is not None else None,
        "boot_id": said.boot_id,
        "totals": said.totals or None,
        "delivered": {**_shown(view.delivered.ever), "today": _shown(view.delivered.today)},
        "created_at": text(mirror.created_at),
    }


def _shown(delivery: Delivery) -> Json:
    return {"bytes": delivery.bytes, "requests": delivery.requests}


@post("/api/cdn", guards=[may()], before_request=body.exactly(NewMirror))
async def create(data: JSONBody[NewMirror], mirrors: NamedDependency[Mirrors]) -> Response[Json]:
    """Add a mirror. Its token is in the answer, and nowhere else afterwards."""
    terms = Terms(
        Fqdn(data.fqdn),
        data.scheme,
        data.port or PORTS[data.scheme],
        data.mode,
        data.weight,
        data.trusted,
        data.drained,
    )
    view, token = await mirrors.create(terms)
    return Response({**shown(view), "token": token}, headers={"location": f"/api/cdn/{view.mirror.id}"})


@look(["/api/cdn:list", "/api/cdn"])
async def every(
    request: Asked,
    mirrors: NamedDependency[Mirrors],
    doors: NamedDependency[Doors],
    manners: NamedDependency[Manners],
) -> list[Json]:
    """All mirrors, each with the reason why it would not be chosen (`why`)."""
    headers = request.scope["soup.headers"]  # type: ignore[typeddict-item]
    if manners.public_list and b"authorization" not in headers:
        views = await mirrors.every()
        return [{"fqdn": view.mirror.terms.fqdn, "status": shown(view)["status"]} for view in views]
    await doors.need(headers, frozenset({Kind.ADMIN, Kind.READ}))
    return [shown(view) for view in await mirrors.every()]


@look("/api/cdn/{id:int}", guards=[may(Kind.READ, Kind.MIRROR)])
async def one(request: Asked, id: FromPath[int], mirrors: NamedDependency[Mirrors]) -> Json:
    """One mirror, and what it has delivered on each of the last 30 days."""
    token = request.state.token
    if token.kind is Kind.MIRROR and token.mirror_id != id:
        raise Denied("a mirror's token shows that mirror only")
    view = await mirrors.one(_known(id))
    days = [{"day": day.isoformat(), **_shown(delivered)} for day, delivered in await mirrors.days(id)]
    return {**shown(view), "days": days}


@patch("/api/cdn/{id:int}")
async def change(
    request: Asked,
    id: FromPath[int],
    desk: NamedDependency[Desk],
) -> Json:
    """A report of the mirror, or a change by an administrator.

    A report says `status` (0 to 3) in the query, as JSON or as a form; with the mirror's token, nothing at
    all is a heartbeat.
    """
    scope: Any = request.scope
    headers = scope["soup.headers"]
    mirrors = desk.mirrors
    token = await desk.doors.speaker(headers, _known(id), mirrors.exists)
    sent = await body.small(request.receive, largest=report.LARGEST)
    said = report.parse(scope["query_string"], body.media_type(headers), sent)
    if token.kind is Kind.ADMIN and "status" not in said.fields and (said.fields or token.id):
        wanted = _change(said.fields)
        return shown(await mirrors.change(id, wanted.applied))
    if said.changes and token.kind is Kind.ADMIN:
        raise BadBody("a report and a change are two requests")
    await mirrors.report(id, said.report())
    feed = await desk.blobs.lately()
    return {
        "epoch": feed.epoch,
        "head": feed.head,
        "interval": float(desk.manners.report_seconds),
        "now": text(utc_now()),
    }


def _change(fields: Json) -> Change:
    return report.converted(fields, Change, BadMirror)


def _known(id: int) -> int:
    if not 0 < id <= LARGEST_ID:
        raise MirrorUnknown(f"no mirror {id}")
    return id


@delete("/api/cdn/{id:int}", guards=[may()])
async def remove(id: FromPath[int], mirrors: NamedDependency[Mirrors], bar: Bar = False) -> None:  # noqa: FBT002 - what a query says
    """Forget a mirror and its tokens. Its id is never used again, and `bar`: none may join at its address."""
    await mirrors.remove(_known(id), bar=bar)


@post("/api/cdn/{id:int}/token", guards=[may()])
async def rotate(id: FromPath[int], mirrors: NamedDependency[Mirrors]) -> Json:
    """A new token for a mirror; the old one works until the new one is first used, or for a day."""
    return {"id": id, "token": await mirrors.rotate(_known(id))}


def face() -> Router:
    """The routes."""
    return Router("/", route_handlers=[create, every, one, change, remove, rotate], tags=["cdn"])
