"""What every answer of the framework gets on its way out."""

import time
from typing import Any

import structlog
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from soup import metrics
from soup.faces.exchange import Exchange

log = structlog.get_logger(__name__)


class Envelope:
    """Adds the id of the request and CORS, counts, and keeps watch over the body (`Exchange`)."""

    def __init__(self, inner: ASGIApp, *, idle: float, log_requests: bool) -> None:
        self._inner, self._idle, self._log = inner, idle, log_requests

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        request: Any = scope
        exchange = Exchange(request, receive, send, self._idle)
        extra = [*request["soup.ids"], *request.get("soup.cors", ())]

        async def sealed(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *extra]
            await exchange.send(message)

        began = time.perf_counter()
        await self._inner(scope, exchange.receive, sealed)
        metrics.API_REQUESTS.labels(request["method"], str(exchange.status)).inc()
        if self._log:
            log.info(
                "request",
                method=request["method"],
                path=scope["path"][:200],
                status=exchange.status,
                seconds=round(time.perf_counter() - began, 4),
                request=request["soup.ids"][0][1].decode(),
            )
