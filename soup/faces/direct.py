"""The bytes of a blob, where no mirror is to send them (D4)."""

from typing import Any

from litestar.types import Receive, Send

from soup.blobs.service import Blobs
from soup.core.blob import Blob
from soup.faces import reply
from soup.faces.asked import Asked
from soup.faces.errors import Headers, send_all
from soup.faces.manners import Manners
from soup.faces.slots import Slots
from soup.faces.tally import Tally

JUDGED = frozenset({b"if-match", b"if-unmodified-since"})  # by nginx too, and without our entity tag


class Direct:
    """Answers with the bytes themselves. Mirrors that fetch them (`sync`) keep no client from a slot."""

    def __init__(self, blobs: Blobs, manners: Manners, sync: Slots, tally: Tally) -> None:
        self._blobs, self._manners, self._tally = blobs, manners, tally
        self._slots, self._sync = Slots("slots"), sync

    async def answer(self, scope: Any, receive: Receive, send: Send, blob: Blob, asked: Asked) -> None:
        """200, 206, 304, 412 or 416.

        Raises BlobMissing, BadRange, NotAsExpected, Busy and StoreDown. Where some of it is out by then, the
        scope has `soup.started`.
        """
        closed = self._manners.closed
        answer = reply.decide(scope["soup.headers"], blob, asked.download, closed=closed)
        answer.headers.extend(scope["soup.ids"])
        if answer.span is None:
            self._tally.count(answer.status, scope["soup.began"])
            await send_all(send, answer.status, answer.headers)
            return
        if asked.mirror:
            place = self._sync.place(self._manners.sync_slots, blob.digest)
        else:
            place = self._slots.place(self._manners.direct_slots, blob.digest)
        with place, await self._blobs.open(blob) as opened:
            self._tally.count(answer.status, scope["soup.began"])
            if scope["method"] == "HEAD":
                await send_all(send, answer.status, answer.headers)
            elif self._manners.accel and opened.data is None and JUDGED.isdisjoint(scope["soup.headers"]):
                await send_all(send, 200, _accelerated(answer.headers, blob))
            elif opened.data is not None:
                body = opened.data[answer.span.first : answer.span.last + 1]
                self._tally.sent(len(body))
                await send_all(send, answer.status, answer.headers, body)
            else:
                scope["soup.started"] = True
                pieces = opened.pieces(answer.span)
                await reply.stream(receive, send, answer, pieces, self._manners.serve_idle)


def _accelerated(headers: Headers, blob: Blob) -> Headers:
    """For an nginx in front: it has the folder, judges the range, and knows the length (D4)."""
    dropped = {b"accept-ranges", b"content-length", b"content-range"}
    kept = [header for header in headers if header[0] not in dropped]
    place = f"/soup-blobs/{blob.digest.folder}/{blob.digest}".encode()
    return [*kept, (b"x-accel-redirect", place), (b"content-length", b"0")]
