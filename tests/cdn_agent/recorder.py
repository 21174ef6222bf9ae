"""A core that writes down what agents say to it, and answers what a test wants."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from tests.cdn_agent.listening import Quiet, listening


@dataclass
class Recorder:
    """Reports with the moment each came; `answers` is the status of the next ones, 200 when it is empty."""

    port: int = 0
    interval: float = 30.0
    epoch: str = "e"
    head: int = 0
    delay: float = 0.0
    retry_after: str = ""
    answers: list[int] = field(default_factory=list)
    reports: list[tuple[float, dict[str, Any]]] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def last(self) -> dict[str, Any]:
        return self.reports[-1][1]

    def gaps(self) -> list[float]:
        """Seconds between one report and the next."""
        moments = [moment for moment, _ in self.reports]
        return [after - before for before, after in pairwise(moments)]

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, Any]:
        self.asked.append(f"{method} {path}")
        if method == "PATCH":
            status = self.answers.pop(0) if self.answers else 200
            self.reports.append((time.monotonic(), json.loads(body)))
            time.sleep(self.delay)
            answer = {"epoch": self.epoch, "head": self.head, "interval": self.interval, "now": ""}
            return status, answer if status == 200 else {"detail": "as the test wants"}
        if path.startswith("/api/blob:list"):
            return 200, {"epoch": self.epoch, "head": self.head, "blobs": [], "next": None}
        if path.startswith("/api/blob:changes"):
            return 200, {"epoch": self.epoch, "head": self.head, "changes": [], "next": self.head}
        return 404, {"detail": "not here"}


@contextmanager
def recording(port: int = 0, **given: Any) -> Iterator[Recorder]:
    recorder = Recorder(**given)

    class Asked(Quiet):
        def _any(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            status, answer = recorder.answer(self.command, self.path, body)
            said = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(said)))
            if status != 200 and recorder.retry_after:
                self.send_header("retry-after", recorder.retry_after)
            self.end_headers()
            self.wfile.write(said)

        do_GET = do_PATCH = do_POST = _any  # noqa: N815 - so http.server wants them

    with listening(Asked, port) as recorder.port:
        yield recorder
