"""The core face put together: guard, front, envelope, framework."""

from collections.abc import Callable
from http import HTTPStatus
from importlib.metadata import version
from typing import Any

import structlog
from litestar import Litestar, Request
from litestar.datastructures import State
from litestar.di import Provide
from litestar.exceptions import HTTPException, ValidationException
from litestar.response import Response

from soup import metrics
from soup.blobs.bundle import Bundles
from soup.blobs.service import Blobs
from soup.core.digest import Digest
from soup.core.errors import SoupError
from soup.faces import blob, bundle, cdn, join, ops
from soup.faces.asked import Asking
from soup.faces.auth import Doors
from soup.faces.direct import Direct
from soup.faces.envelope import Envelope
from soup.faces.errors import Guard, Unexpected, problem
from soup.faces.front import Front
from soup.faces.manners import Manners
from soup.faces.ops import Ready
from soup.faces.slots import Slots
from soup.faces.tally import Tally
from soup.faces.upload import Upload
from soup.mirrors.joins import Joins
from soup.mirrors.service import Mirrors

log = structlog.get_logger(__name__)

SPELT = {"standing": "state"}  # parameters whose name the framework wants for itself
SPREAD = 5  # seconds over which mirrors that find no place are told to come back


class Face(Guard):
    """The ASGI application: HTTP passes guard and front; what the front passes on is the framework's.

    `control`: blobs are none of its business (D10).
    """

    def __init__(
        self,
        blobs: Blobs,
        bundles: Bundles,
        mirrors: Mirrors,
        joins: Joins,
        doors: Doors,
        ready: Ready,
        manners: Manners,
        *,
        control: bool = False,
    ) -> None:
        self.manners = manners
        self.sync, self.tally = Slots("sync", spread=SPREAD), Tally()
        parts: dict[str, Any] = {
            "blobs": blobs,
            "bundles": bundles,
            "mirrors": mirrors,
            "joins": joins,
            "doors": doors,
            "ready": ready,
            "flush": self.tally.flush,
            "manners": manners,
            "sync": self.sync,
            "desk": cdn.Desk(mirrors, blobs, doors, manners),
        }
        self.framework = _framework(parts, control=control)
        framework = self.framework if control else Upload(self.framework, blobs, doors, manners)
        envelope = Envelope(framework, manners)
        direct = Direct(blobs, manners, self.sync, self.tally)
        front = Front(envelope, blobs, mirrors, Asking(doors, manners), direct, manners, self.tally)
        super().__init__(envelope if control else front, manners, ops.ALWAYS)


def _framework(parts: dict[str, Any], *, control: bool) -> Litestar:
    faces = [cdn.face(), join.face(), ops.face()]
    if not control:
        faces += [blob.face(), bundle.face()]
    app = Litestar(
        route_handlers=faces,
        dependencies={name: Provide(_giving(part), sync_to_thread=False) for name, part in parts.items()},
        exception_handlers={SoupError: _refused, HTTPException: _framework_refused, Exception: _failed},
        type_decoders=[(lambda kind: kind is Digest, lambda kind, text: kind(text))],
        openapi_config=ops.openapi(version("soup")),
        request_max_body_size=1024 * 1024,
        state=State({"doors": parts["doors"]}),
        logging_config=None,
        debug=False,
    )
    if not control:
        ops.describe_front(app.openapi_schema)
    return app


def _giving(part: Any) -> Callable[[], Any]:
    return lambda: part


def _refused(request: Request[Any, Any, Any], error: SoupError) -> Response[bytes]:
    scope: Any = request.scope
    code, headers, body = problem(error, scope["soup.headers"])
    told = {name.decode(): value.decode() for name, value in headers if name != b"content-length"}
    return Response(body, status_code=code, headers=told, media_type=told["content-type"])


def _framework_refused(_: Request[Any, Any, Any], error: HTTPException) -> Response[dict[str, object]]:
    title = HTTPStatus(error.status_code).phrase
    detail = error.detail
    if isinstance(error, ValidationException) and isinstance(error.extra, list):
        faults = (
            f"{SPELT.get(one.get('key', ''), one.get('key', ''))}: {one['message']}".removeprefix(": ")
            for one in error.extra
            if "message" in one
        )
        detail = "; ".join(faults) or detail
    fields: dict[str, object] = {
        "type": "about:blank",
        "title": title,
        "status": error.status_code,
        "detail": detail,
    }
    return Response(
        fields, status_code=error.status_code, headers=error.headers, media_type="application/problem+json"
    )


def _failed(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    scope: Any = request.scope
    log.error(
        "request.failed",
        path=scope["path"][:200],
        request=scope["soup.ids"][0][1].decode(),
        exc_info=error,
    )
    metrics.ERRORS.inc()
    return _refused(request, Unexpected("something failed that should not; see the log"))
