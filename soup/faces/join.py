"""/api/cdn:join: mirrors that join by themselves."""

from litestar import Router, post
from litestar.di import NamedDependency
from litestar.params import JSONBody
from litestar.response import Response
from msgspec import Struct

from soup.access.model import Kind
from soup.core.clock import text
from soup.faces import body
from soup.faces.auth import may
from soup.faces.cdn import Json, Port, shown
from soup.faces.look import look
from soup.mirrors.joins import Joins
from soup.mirrors.model import PORTS, Fqdn, Mode, Scheme, Terms
from soup.mirrors.service import Mirrors


class Joining(Struct, forbid_unknown_fields=True):
    """What a mirror says that joins. `port` is the scheme's own where it is not given."""

    fqdn: str
    scheme: Scheme = "https"
    port: Port | None = None
    mode: Mode = "full"


@post("/api/cdn:join", guards=[may(Kind.JOIN)], before_request=body.exactly(Joining))
async def join(data: JSONBody[Joining], joins: NamedDependency[Joins]) -> Response[Json]:
    """Become a mirror: 201, or 200 for an address that has joined before, each with a new token.

    It is sent nobody before it has passed an audit, and is not shown credentials (`trusted` is false).
    """
    terms = Terms(Fqdn(data.fqdn), data.scheme, data.port or PORTS[data.scheme], data.mode, trusted=False)
    view, token, new = await joins.join(terms)
    where = {"location": f"/api/cdn/{view.mirror.id}"}
    return Response({**shown(view), "token": token}, status_code=201 if new else 200, headers=where)


@look("/api/cdn:barred", guards=[may(Kind.READ)])
async def barred(mirrors: NamedDependency[Mirrors]) -> list[Json]:
    """Addresses at which no mirror may join, and since when. To add a mirror there lifts it."""
    return [{"fqdn": bar.fqdn, "port": bar.port, "since": text(bar.since)} for bar in await mirrors.barred()]


def face() -> Router:
    """The routes."""
    return Router("/", route_handlers=[join, barred], tags=["cdn"])
