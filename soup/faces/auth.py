"""Who may (D11)."""

from collections.abc import Awaitable, Callable
from typing import Any

from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler
from litestar.types import Guard as LitestarGuard

from soup.access.model import ANYBODY, Kind, Token
from soup.access.service import Access
from soup.core.errors import Denied, MirrorUnknown, Unauthenticated

CREDENTIALS = frozenset({b"authorization", b"proxy-authorization", b"cookie", b"x-api-key"})
_BEARER = "bearer "


class Doors:
    """Knows from a request's headers whose it is.

    `mode` open: who has no token is an administrator. `report_auth` none: who has none speaks for any mirror.
    """

    def __init__(self, access: Access, mode: str, report_auth: str) -> None:
        self._access = access
        self.become(mode, report_auth)

    def become(self, mode: str, report_auth: str) -> None:
        """Be as open as these settings say from the next request on."""
        self._open, self._open_reports = mode == "open", report_auth == "none"

    async def who(self, headers: dict[bytes, bytes]) -> Token | None:
        """Whose request this is; None where it has no token.

        Raises Unauthenticated for a token nobody has.
        """
        sent = headers.get(b"authorization")
        if sent is None:
            return ANYBODY if self._open else None
        text = sent.decode("latin-1")
        if not text.lower().startswith(_BEARER):
            if self._open:
                return ANYBODY
            raise Unauthenticated("send the token as `Authorization: Bearer <token>`")
        return await self._access.who(text[len(_BEARER) :].strip())

    async def need(self, headers: dict[bytes, bytes], kinds: frozenset[Kind]) -> Token:
        """A holder of a token of one of these kinds. Raises Unauthenticated, Denied."""
        token = await self.who(headers)
        if token is None:
            raise Unauthenticated("this needs a token: send `Authorization: Bearer <token>`")
        if token.kind not in kinds:
            raise Denied(f"a token of kind {token.kind} may not do this; {' or '.join(sorted(kinds))} may")
        return token

    async def speaker(
        self, headers: dict[bytes, bytes], id: int, exists: Callable[[int], Awaitable[bool]]
    ) -> Token:
        """Who may report as mirror `id`: itself, or an administrator.

        Raises Unauthenticated, Denied, MirrorUnknown.

        The token of a deleted mirror is gone with it; its agent should read that, not of a wrong token.
        """
        if self._open_reports and b"authorization" not in headers:
            return Token(0, Kind.MIRROR, id)
        try:
            token = await self.need(headers, frozenset({Kind.ADMIN, Kind.MIRROR}))
        except Unauthenticated:
            if b"authorization" in headers and not await exists(id):
                raise MirrorUnknown(f"no mirror {id}") from None
            raise
        if token.kind is Kind.MIRROR and token.mirror_id != id:
            raise Denied("a mirror's token reports for that mirror only")
        return token


def may(*kinds: Kind) -> LitestarGuard:
    """A route's guard: a token of one of these kinds. An administrator's always is."""
    allowed = frozenset({Kind.ADMIN, *kinds})

    async def guard(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
        scope: Any = connection.scope
        doors: Doors = connection.app.state.doors
        connection.state.token = await doors.need(scope["soup.headers"], allowed)

    return guard
