"""What every answer of the framework gets on its way out."""

from http import HTTPStatus
from time import perf_counter
from typing import Any

from litestar.exceptions import LitestarException
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from soup import metrics
from soup.faces.errors import NO_STORE
from soup.faces.exchange import Exchange
from soup.faces.manners import Manners

METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}  # clients may make up others


class Envelope:
    """Adds the id of the request and CORS, counts, and keeps watch over the body (`Exchange`).

    No cache may keep an answer: it is of this moment, and may hold a token. The description stays as it is.
    """

    def __init__(self, inner: ASGIApp, manners: Manners) -> None:
        self._inner, self._manners = inner, manners

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        request: Any = scope
        began = perf_counter()
        exchange = Exchange(request, receive, send, self._manners.upload_idle)
        extra = [*request["soup.ids"], *request.get("soup.cors", ())]
        described = request["path"].startswith("/schema")

        async def sealed(message: Message) -> None:
            if message["type"] == "http.response.start":
                stored = described and message["status"] == HTTPStatus.OK
                message["headers"] = [*message.get("headers", ()), *extra, *(() if stored else NO_STORE)]
            await exchange.send(message)

        try:
            await self._inner(scope, exchange.receive, sealed)
        except LitestarException as error:
            raise (error.__cause__ or error) from None  # it wraps what is raised once an answer has begun
        finally:
            method = request["method"] if request["method"] in METHODS else "other"
            metrics.API_REQUESTS.labels(method, str(exchange.status)).inc()
            if "soup.waited" not in request:
                metrics.API_SECONDS.labels(method).observe(perf_counter() - began)
