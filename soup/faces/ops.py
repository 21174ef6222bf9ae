"""Health, metrics, and the description of everything else."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from html import escape
from typing import Any

from litestar import Request, Router
from litestar.di import NamedDependency
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin, OpenAPIRenderPlugin
from litestar.openapi.spec import (
    OpenAPIMediaType,
    OpenAPIResponse,
    Operation,
    Parameter,
    PathItem,
    RequestBody,
    Schema,
)
from litestar.openapi.spec.enums import OpenAPIFormat, OpenAPIType
from litestar.openapi.spec.open_api import OpenAPI
from litestar.response import Response
from prometheus_client import CONTENT_TYPE_LATEST

from soup.faces.look import look
from soup.metrics import exposition

Json = dict[str, Any]
Ready = Callable[[], Awaitable[str | None]]

# The names older systems gave to two questions (C15); two are misspelt there, and monitors ask for them so.
LIVE = ["/healthz", "/health", "/healthcheck", "/helthcheck"]
READY = ["/readyz", "/health/ready", "/readiness", "/redines"]
ALWAYS = frozenset({*LIVE, *READY, "/metrics"})  # answered before anything else can be


@look(LIVE)
async def live() -> Json:
    """Whether this process answers at all."""
    return {"status": "ok"}


@look(READY)
async def ready(ready: NamedDependency[Ready]) -> Response[Json]:
    """Whether it can do its work: 503 with the reason where it cannot."""
    reason = await ready()
    if reason is None:
        return Response({"status": "ok"})
    return Response({"status": "degraded", "reason": reason}, status_code=503, headers={"retry-after": "1"})


@look("/metrics")
async def metrics(flush: NamedDependency[Callable[[], None]]) -> Response[bytes]:
    """What Prometheus reads: all workers together."""
    flush()
    return Response(await asyncio.to_thread(exposition), headers={"content-type": CONTENT_TYPE_LATEST})


class Page(OpenAPIRenderPlugin):
    """The description as a page: no script, no link to anywhere else."""

    def __init__(self) -> None:
        super().__init__(path="/")

    def render(self, request: Request[Any, Any, Any], openapi_schema: Json) -> bytes:
        """HTML."""
        del request
        head = openapi_schema["info"]
        tables = "".join(_table(title, _rows(openapi_schema, tag)) for tag, title in _TAGS.items())
        return _PAGE.format(
            title=escape(head["title"]), version=escape(head["version"]), tables=tables
        ).encode()


_TAGS = {"blob": "Blobs", "cdn": "Mirrors", "ops": "Running"}
_METHODS = ["get", "head", "options", "put", "post", "patch", "delete"]
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{title} API</title><style>
body {{ font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 68rem; padding: 0 1rem;
  color: #222; background: #fff }}
h2 {{ margin: 2rem 0 .25rem; font-size: 1.2rem }}
table {{ border-collapse: collapse; width: 100%; table-layout: fixed }}
td {{ border-top: 1px solid #ddd; padding: .5rem 1rem .5rem 0; vertical-align: top }}
td:first-child {{ width: 19rem }} td:last-child {{ width: 9rem; color: #555 }}
code {{ font: 14px/1.7 ui-monospace, monospace; overflow-wrap: anywhere }} small {{ color: #555 }}
@media (max-width: 48rem) {{ td {{ display: block; width: auto !important; border: 0; padding: 0 }}
  tr {{ display: block; border-top: 1px solid #ddd; padding: .5rem 0 }} }}
@media (prefers-color-scheme: dark) {{ body {{ color: #ddd; background: #181818 }}
  td, tr {{ border-color: #444 !important }} small, td:last-child {{ color: #aaa }} a {{ color: #8bf }} }}
</style></head><body>
<h1>{title} <small>{version}</small></h1>
<p>The same for programs: <a href="/schema/openapi.json">openapi.json</a>. A token is sent as
<code>Authorization: Bearer &lt;token&gt;</code>.</p>
{tables}</body></html>
"""


def _rows(schema: Json, tag: str) -> dict[tuple[str, str, str], dict[str, list[str]]]:
    """What requests do, and which do it: those that do the same stand in one row."""
    rows: dict[tuple[str, str, str], dict[str, list[str]]] = {}
    # The one request soup is there for comes first.
    for path, item in sorted(schema["paths"].items(), key=lambda one: (one[0] != "/{digest}", one[0])):
        for method in _METHODS:
            operation = item.get(method)
            if operation and tag in operation.get("tags", ()):
                asks = ", ".join(p["name"] for p in operation.get("parameters", ()) if p.get("in") == "query")
                said = operation.get("description") or operation.get("summary") or ""
                answers = " ".join(sorted(operation.get("responses") or {}))
                rows.setdefault((said, asks, answers), {}).setdefault(path, []).append(method.upper())
    return rows


def _table(title: str, rows: dict[tuple[str, str, str], dict[str, list[str]]]) -> str:
    lines: list[str] = []
    for (said, asks, answers), who in rows.items():
        requests = "<br>".join(
            f"<code>{' '.join(methods)} {escape(path)}</code>" for path, methods in who.items()
        )
        query = f"<br><small>query: {escape(asks)}</small>" if asks else ""
        text = re.sub("`([^`]+)`", r"<code>\1</code>", escape(said))
        lines.append(f"<tr><td>{requests}</td><td>{text}{query}</td><td>{answers}</td></tr>\n")
    return f"<h2>{title}</h2>\n<table>{''.join(lines)}</table>\n"


def openapi(version: str) -> OpenAPIConfig:
    """Where the description is: /schema as a page, or as JSON for whoever does not ask for HTML."""
    router = Router("/schema", route_handlers=[], include_in_schema=False, before_request=_json_unless_asked)
    return OpenAPIConfig(
        title="soup",
        version=version,
        description="A content-addressed blob server with CDN offload.",
        render_plugins=[Page(), JsonRenderPlugin()],
        openapi_router=router,
        use_handler_docstrings=True,
    )


async def _json_unless_asked(request: Request[Any, Any, Any]) -> Response[Json] | None:
    if request.scope["path"].rstrip("/") != "/schema" or "text/html" in request.headers.get("accept", ""):
        return None
    return Response(request.app.openapi_schema.to_schema(), media_type="application/vnd.oai.openapi+json")


def describe_front(schema: OpenAPI) -> None:
    """Put `/<sha256>` into the description: the framework does not serve it (D3)."""
    digest = Parameter(
        name="digest",
        param_in="path",
        required=True,
        description="SHA-256 in 64 lower-case hex digits",
        schema=Schema(type=OpenAPIType.STRING, pattern="^[0-9a-f]{64}$"),
    )
    text, number = Schema(type=OpenAPIType.STRING), Schema(type=OpenAPIType.INTEGER, enum=[0, 1])
    query = [
        Parameter(
            name="direct", param_in="query", description="1: the bytes from soup, no redirect", schema=number
        ),
        Parameter(
            name="from",
            param_in="query",
            description="mirrors: with a full mirror's token, a redirect to another full one that has it",
            schema=Schema(type=OpenAPIType.STRING, enum=["mirrors"]),
        ),
        Parameter(name="download", param_in="query", description="a file name for the bytes", schema=text),
    ]
    answers = {
        "200": "The bytes",
        "206": "A range of the bytes",
        "304": "You have them",
        "307": "A mirror has them: `Location`; others do as well: `Link`",
        "404": "No such blob",
        "410": "Blocked by an administrator",
        "412": "Other content was expected",
        "416": "No such range",
        "503": "Try again: `Retry-After`",
    }
    kept = {"200": "It was here", "201": "It is here now", "422": "The bytes have another digest"}
    schema.paths = schema.paths or {}
    schema.paths["/{digest}"] = PathItem(
        parameters=[digest],
        get=_operation("A blob: a redirect to a mirror that is online, or the bytes.", answers, query),
        head=_operation("As GET, without the bytes.", answers, query),
        options=_operation("What a browser asks before it sends a request.", {"204": "Yes"}, []),
        put=_operation(
            "Keep these bytes under their digest.",
            kept,
            [],
            RequestBody(content={"application/octet-stream": _BYTES}),
        ),
    )


_BYTES = OpenAPIMediaType(schema=Schema(type=OpenAPIType.STRING, format=OpenAPIFormat.BINARY))


def _operation(
    text: str, answers: dict[str, str], query: list[Parameter], body: RequestBody | None = None
) -> Operation:
    return Operation(
        tags=["blob"],
        summary=text,
        description=text,
        parameters=[*query] or None,
        request_body=body,
        responses={code: OpenAPIResponse(description=meaning) for code, meaning in answers.items()},
    )


def face() -> Router:
    """The routes."""
    return Router("/", route_handlers=[live, ready, metrics], tags=["ops"])
