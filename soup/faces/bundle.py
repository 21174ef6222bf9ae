"""/api/blob:bundle: many blobs in one answer, for mirrors (D8)."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated, Any

from litestar import Router, post
from litestar.di import NamedDependency
from litestar.params import FromQuery, JSONBody, QueryParameter
from litestar.types import ASGIApp, Receive, Scope, Send

from soup.access.model import Kind
from soup.blobs.bundle import Bundles
from soup.core.digest import Digest
from soup.faces import body
from soup.faces.auth import may
from soup.faces.blob import Cursor, Wanted
from soup.faces.errors import Headers, send_all
from soup.faces.look import look
from soup.faces.manners import Manners
from soup.faces.reply import Reply, stream
from soup.faces.slots import Slots

Many = Annotated[int | None, QueryParameter(ge=1, le=10_000, description="Of at most so many changes")]
Largest = Annotated[int | None, QueryParameter(ge=0, description="Without blobs of more bytes")]
LOOKS = (Kind.READ, Kind.MIRROR)


class Tar:
    """An answer in pieces, of a length that is not known before its end."""

    def __init__(
        self, pieces: AsyncGenerator[bytes], slots: Slots, manners: Manners, headers: Headers | None = None
    ) -> None:
        self._pieces, self._slots, self._manners = pieces, slots, manners
        self._headers: Headers = [(b"content-type", b"application/x-tar"), *(headers or ())]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI. Who breaks off in the middle is broken off: an archive must not look whole when it is not."""
        request: Any = scope
        if request["method"] == "HEAD":
            await self._pieces.aclose()
            await send_all(send, 200, self._headers)
            return
        request["soup.waited"] = True  # its time is that of the client
        with self._slots.place(self._manners.sync_slots):
            async with aclosing(self._pieces) as pieces:
                first = await anext(pieces)  # what cannot begin is an answer of its own
                request["soup.started"] = True
                reply = Reply(200, self._headers, None)
                await stream(receive, send, reply, _from(first, pieces), self._manners.serve_idle)


async def _from(first: bytes, rest: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    yield first
    async for piece in rest:
        yield piece


@look("/api/blob:bundle", guards=[may(*LOOKS)], media_type="application/x-tar")
async def following(
    bundles: NamedDependency[Bundles],
    sync: NamedDependency[Slots],
    manners: NamedDependency[Manners],
    after: Cursor = 0,
    epoch: FromQuery[str | None] = None,
    limit: Many = None,
    largest: Largest = None,
) -> ASGIApp:
    """Blobs as a tar of `abc/abc...`: those present, in the order of the feed, from behind a number.

    `Soup-Next` is the `after` of the next bundle, `Soup-Head` the number of the last change there was. With
    `limit` it is of so many changes, blobs or not, as `blob:changes` counts them. What has been deleted is
    not told. 410 when the cursor is too old.
    """
    stretch = await bundles.stretch(after, epoch, limit)
    headers = [
        (b"soup-epoch", stretch.epoch.encode()),
        (b"soup-next", b"%d" % stretch.next),
        (b"soup-head", b"%d" % stretch.head),
    ]
    return Tar(bundles.following(stretch, largest), sync, manners, headers)


@post("/api/blob:bundle", guards=[may(*LOOKS)], before_request=body.exactly(Wanted), status_code=200,
      media_type="application/x-tar")  # fmt: skip
async def named(
    data: JSONBody[Wanted],
    bundles: NamedDependency[Bundles],
    sync: NamedDependency[Slots],
    manners: NamedDependency[Manners],
) -> ASGIApp:
    """The same of up to 10,000 digests: those that are present, in the order they were asked."""
    return Tar(bundles.of([Digest(text) for text in data.digests]), sync, manners)


def face() -> Router:
    """The routes."""
    return Router("/", route_handlers=[following, named], tags=["blob"])
