"""What every answer of the framework gets on its way out."""

from typing import Any

from litestar.types import ASGIApp, Message, Receive, Scope, Send

from soup import metrics
from soup.faces.exchange import Exchange


class Envelope:
    """Adds the id of the request and CORS, counts, and keeps watch over the body (`Exchange`)."""

    def __init__(self, inner: ASGIApp, *, idle: float) -> None:
        self._inner, self._idle = inner, idle

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        request: Any = scope
        exchange = Exchange(request, receive, send, self._idle)
        extra = [*request["soup.ids"], *request.get("soup.cors", ())]

        async def sealed(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *extra]
            await exchange.send(message)

        await self._inner(scope, exchange.receive, sealed)
        metrics.API_REQUESTS.labels(request["method"], str(exchange.status)).inc()
