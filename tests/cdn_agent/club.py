"""A core that mirrors join."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.cdn_agent.listening import Quiet, listening

SECRET = "join-by-this"  # noqa: S105 - of a test


@dataclass
class Club:
    """A core that mirrors join. `refusals` are the answers to the next who ask: status, seconds to wait."""

    port: int = 0
    id: int = 3
    token: str | None = None
    secret: str = SECRET
    deaf_until: float = 0.0
    refusals: list[tuple[int, int]] = field(default_factory=list)
    asked: list[tuple[float, dict[str, Any]]] = field(default_factory=list)
    reports: list[tuple[int, dict[str, Any]]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def heard(self) -> list[dict[str, Any]]:
        return [said for status, said in self.reports if status == 200]

    def answer(self, method: str, path: str, secret: str, said: Any) -> tuple[int, dict[str, str], Any]:
        if path == "/api/cdn:join":
            return self._join(method, secret, said)
        if method == "PATCH":
            known = secret == self.token and time.monotonic() >= self.deaf_until
            status = (200 if known else 401) if path == f"/api/cdn/{self.id}" else 404
            self.reports.append((status, said))
            return status, {}, {"epoch": "e", "head": 0, "interval": 0.5, "detail": "as the test wants"}
        if path.startswith("/api/blob:list"):
            return 200, {}, {"epoch": "e", "head": 0, "blobs": [], "next": None}
        return 200, {}, {"epoch": "e", "head": 0, "changes": [], "next": 0}

    def _join(self, method: str, secret: str, said: Any) -> tuple[int, dict[str, str], Any]:
        assert "POST" == method
        self.asked.append((time.monotonic(), said))
        if self.refusals:
            status, after = self.refusals.pop(0)
            return status, {"retry-after": str(after)}, {"detail": f"as the test wants: {status}"}
        if secret != self.secret:
            return 401, {}, {"detail": "wrong secret"}
        status = 200 if self.token else 201
        self.token = f"soup_{len(self.asked)}"
        return status, {}, {"id": self.id, "token": self.token, **said}


@contextmanager
def club(port: int = 0, **given: Any) -> Iterator[Club]:
    core = Club(**given)

    class Asked(Quiet):
        def _any(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            secret = self.headers.get("authorization", "").removeprefix("Bearer ")
            status, headers, answer = core.answer(
                self.command, self.path, secret, json.loads(body or b"null")
            )
            text = json.dumps(answer).encode()
            self.send_response(status)
            for name, value in ({"content-length": str(len(text))} | headers).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(text)

        do_GET = do_PATCH = do_POST = _any  # noqa: N815 - so http.server wants them

    with listening(Asked, port) as core.port:
        yield core
