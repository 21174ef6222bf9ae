"""/api/blob: uploads, lists, facts."""

from typing import Annotated, Any, Literal

from litestar import Request, Router, delete, patch, post, put, route
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter
from litestar.response import Response
from msgspec import Meta, Struct

from soup.access.model import Kind
from soup.blobs.model import Facts
from soup.blobs.service import Blobs
from soup.core.blob import State
from soup.core.clock import text
from soup.core.digest import Digest
from soup.faces import body, reply, upload
from soup.faces.auth import may
from soup.faces.look import look
from soup.faces.manners import Manners
from soup.mirrors.service import Mirrors

Json = dict[str, Any]
Asked = Request[Any, Any, Any]
Page = Annotated[int, QueryParameter(ge=1, le=10_000, description="At most this many")]
Standing = Annotated[Literal["present", "blocked"], QueryParameter(name="state", description="Which blobs")]
Cursor = Annotated[int, QueryParameter(ge=0, description="The number of a change: 0 for all")]
Wait = Annotated[float, QueryParameter(ge=0, le=25, description="Seconds to wait for a change")]
LOOKS = (Kind.READ, Kind.MIRROR)


class Wanted(Struct, forbid_unknown_fields=True):
    """Digests to ask after."""

    digests: Annotated[list[str], Meta(max_length=10_000)]


class Block(Struct, forbid_unknown_fields=True):
    """Whether a blob is refused to everybody."""

    blocked: bool


def shown(facts: Facts) -> Json:
    """A blob as lists show it."""
    return {
        "digest": facts.digest,
        "size": facts.size,
        "created_at": text(facts.created_at),
        "state": facts.state.name.lower(),
        "seq": facts.seq,
    }


@put("/api/blob/{digest:str}", guards=[may(Kind.WRITE)], request_max_body_size=None)
async def keep(
    request: Asked, digest: FromPath[Digest], blobs: NamedDependency[Blobs], manners: NamedDependency[Manners]
) -> Response[bytes]:
    """Keep these bytes under their digest: 201 when they are new, 200 when not, 422 when they are others."""
    return await _keep(request, blobs, manners, digest)


@route(
    "/api/blob",
    http_method=["POST", "PUT"],
    guards=[may(Kind.WRITE)],
    request_max_body_size=None,
    status_code=201,
)
async def add(
    request: Asked, blobs: NamedDependency[Blobs], manners: NamedDependency[Manners]
) -> Response[bytes]:
    """Keep these bytes, whatever their digest is; the answer says it."""
    return await _keep(request, blobs, manners, None)


async def _keep(request: Asked, blobs: Blobs, manners: Manners, digest: Digest | None) -> Response[bytes]:
    code, headers, answer = await upload.keep(request.scope, request.receive, blobs, manners, digest)
    told = {name.decode(): value.decode() for name, value in headers if name != b"content-length"}
    return Response(answer, status_code=code, headers=told, media_type=told["content-type"])


@look("/api/blob:list", guards=[may(*LOOKS)])
async def every(
    blobs: NamedDependency[Blobs],
    after: FromQuery[Digest | None] = None,
    limit: Page = 1000,
    standing: Standing = "present",
) -> Json:
    """Blobs in the order of their digests. `next` is the `after` of the next page; null on the last.

    Who has read all pages knows everything up to the `head` of the first, and can follow `blob:changes` from
    it.
    """
    feed, found = await blobs.listed(after, limit + 1, State[standing.upper()])
    page = found[:limit]
    return {
        "blobs": [shown(facts) for facts in page],
        "next": page[-1].digest if len(found) > limit else None,
        "epoch": feed.epoch,
        "head": feed.head,
    }


@look("/api/blob:changes", guards=[may(*LOOKS)])
async def changes(
    request: Asked,
    blobs: NamedDependency[Blobs],
    after: Cursor = 0,
    epoch: FromQuery[str | None] = None,
    limit: Page = 1000,
    wait: Wait = 0,
) -> Json:
    """Every change of a blob's state after a number, in the order they became true; none is ever missed.

    Ask again with `next` as `after`, and with the same `epoch`: in another one the numbers begin anew. With
    `wait` the answer comes when something happens, or after so many seconds. 410 when the cursor is too old.
    """
    if wait:
        scope: Any = request.scope
        scope["soup.waited"] = True  # its time says nothing of ours
    found = await blobs.changes(after, epoch, limit, wait)
    return {
        "epoch": found.feed.epoch,
        "changes": [shown(facts) for facts in found.changes],
        "next": found.next,
        "head": found.feed.head,
    }


@post("/api/blob:missing", guards=[may(*LOOKS)], before_request=body.exactly(Wanted), status_code=200)
async def missing(data: JSONBody[Wanted], blobs: NamedDependency[Blobs]) -> Json:
    """Which of up to 10,000 digests are not here."""
    return {"missing": await blobs.missing([Digest(text) for text in data.digests])}


@look("/api/blob/{digest:str}", guards=[may(*LOOKS)])
async def facts(
    digest: FromPath[Digest], blobs: NamedDependency[Blobs], mirrors: NamedDependency[Mirrors]
) -> Json:
    """Everything known of a blob, and which mirrors would be sent its requests now."""
    return await _all_of(await blobs.facts(digest), mirrors)


@patch("/api/blob/{digest:str}", guards=[may()], before_request=body.exactly(Block))
async def block(
    request: Asked,
    digest: FromPath[Digest],
    data: JSONBody[Block],
    blobs: NamedDependency[Blobs],
    mirrors: NamedDependency[Mirrors],
) -> Json:
    """Block a blob: 410 for everybody who asks for it, and for everybody who sends it. Or unblock it."""
    await _match(request, digest, blobs)
    await blobs.block(digest, blocked=data.blocked)
    return await _all_of(await blobs.facts(digest), mirrors)


async def _all_of(found: Facts, mirrors: Mirrors) -> Json:
    present = found.state is State.PRESENT
    holders = await mirrors.holders(found.digest, found.seq, found.size) if present else []
    return {
        **shown(found),
        "placements": [
            {"store": copy.store, "state": copy.state, "verified_at": text(copy.verified_at)}
            for copy in found.placements
        ],
        "mirrors": [{"id": mirror.id, "fqdn": mirror.terms.fqdn} for mirror in holders],
    }


@delete("/api/blob/{digest:str}", guards=[may()])
async def remove(request: Asked, digest: FromPath[Digest], blobs: NamedDependency[Blobs]) -> None:
    """Delete a blob. It is gone at once; its bytes follow within minutes."""
    await _match(request, digest, blobs)
    await blobs.delete(digest)


async def _match(request: Asked, digest: Digest, blobs: Blobs) -> None:
    """Raises NotAsExpected where If-Match names other content, BlobUnknown where there is none."""
    scope: Any = request.scope
    if b"if-match" in scope["soup.headers"]:
        await blobs.facts(digest)
        reply.match(scope["soup.headers"], digest)


def face() -> Router:
    """The routes."""
    return Router(
        "/", route_handlers=[keep, add, every, changes, missing, facts, block, remove], tags=["blob"]
    )
