"""What the agent tells the person, and the Prometheus, of its own machine."""

import json
import socket
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import Any

import structlog

log = structlog.get_logger(__name__)

Status = dict[str, Any]

METRICS = {
    "status": ("gauge", "What the mirror says of itself: 1 ok, 2 warning, 3 error"),
    "joined": ("gauge", "Of a mirror that joins by itself: 1 where the core knows it, 0 where not"),
    "joins_total": ("counter", "Times that it has joined"),
    "joins_failed_total": ("counter", "Times that it was refused, or no core answered"),
    "reported_seconds": ("gauge", "Time since the last report that was heard"),
    "reports_total": ("counter", "Reports that were heard"),
    "reports_failed_total": ("counter", "Reports that no core answered"),
    "reports_refused_total": ("counter", "Reports that a core refused"),
    "feed_head": ("gauge", "Number of the last change in the core's feed"),
    "feed_cursor": ("gauge", "Number up to which the feed was read"),
    "synced_to": (
        "gauge",
        "Number up to which the mirror answers for every blob it does not name as lacking",
    ),
    "blobs": ("gauge", "Blobs that should be here"),
    "blobs_wanted": ("gauge", "Blobs that should be here and are not yet"),
    "blobs_failing": ("gauge", "Blobs that could not be fetched more than once"),
    "fetched_total": ("counter", "Blobs that were fetched"),
    "fetched_bytes_total": ("counter", "Bytes that were fetched"),
    "fetch_failures_total": ("counter", "Blobs that could not be fetched and are tried again"),
    "adopted_total": ("counter", "Blobs that lay in the folder already and were right"),
    "removed_total": ("counter", "Blobs that were removed because the core does not have them any more"),
    "damaged_total": ("counter", "Blobs that were found to be damaged or missing, and fetched again"),
    "scrubbed_bytes_total": ("counter", "Bytes that were read again to find damage"),
    "pulls_total": ("counter", "Blobs that were asked for and not here: fetches begun"),
    "pulled_bytes_total": ("counter", "Bytes that were fetched because somebody asked for them"),
    "pull_clients": ("gauge", "Clients that are given a blob while it comes"),
    "pull_passed_total": ("counter", "Answers that were passed through from the core and not kept"),
    "pull_wrong_total": ("counter", "Blobs that came with other bytes: clients were cut off"),
    "pull_refused_total": ("counter", "Requests that were turned away: too many, or the core is down"),
    "evicted_total": ("counter", "Blobs that were removed to make room, those served longest ago first"),
    "evicted_bytes_total": ("counter", "Bytes of them"),
    "delivered_bytes_total": ("counter", "Bytes of blobs that the web server delivered"),
    "delivered_requests_total": ("counter", "Requests for blobs that the web server answered with bytes"),
    "disk_free_bytes": ("gauge", "Room on the disk of the blobs"),
    "disk_total_bytes": ("gauge", "Size of that disk"),
}


def exposition(status: Status) -> str:
    """The metrics in Prometheus' text form; what is not known is left out."""
    lines = []
    for name, (kind, text) in METRICS.items():
        value = status["metrics"].get(name)
        if value is None:
            continue
        full = f"soup_agent_{name}"
        lines += [f"# HELP {full} {text}", f"# TYPE {full} {kind}", f"{full} {value}"]
    return "\n".join(lines) + "\n"


class Page:
    """A small HTTP server on one address, in a thread of its own."""

    def __init__(self, listen: str, status: Callable[[], Status]) -> None:
        host, _, port = listen.rpartition(":")

        class Asked(BaseHTTPRequestHandler):
            timeout = 5

            def do_GET(self) -> None:
                code, kind, text = _answer(self.path.partition("?")[0], status)
                body = text.encode()
                self.send_response(code)
                self.send_header("content-type", kind)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                """Say nothing: who scrapes every few seconds is no news."""

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            address_family = socket.AF_INET6 if ":" in host else socket.AF_INET

            def handle_error(self, *_: object) -> None:
                """Say nothing: who hangs up in the middle is no news either."""

            def server_bind(self) -> None:
                TCPServer.server_bind(self)  # the one of HTTPServer asks DNS for a name nobody needs

        try:
            self._server = Server((host.strip("[]"), int(port)), Asked)
        except (OSError, OverflowError) as error:
            raise OSError(f"cannot listen on {listen}: {error}") from error
        self._thread = threading.Thread(target=self._server.serve_forever, name="page", daemon=True)

    def start(self) -> None:
        """Answer from now on."""
        self._thread.start()

    def close(self) -> None:
        """Answer no more."""
        self._server.shutdown()
        self._server.server_close()


def _answer(path: str, status: Callable[[], Status]) -> tuple[int, str, str]:
    if path == "/metrics":
        return 200, "text/plain; version=0.0.4; charset=utf-8", exposition(status())
    if path == "/status":
        return 200, "application/json", json.dumps(status())
    if path == "/healthz":
        return 200, "text/plain", "ok\n"
    return 404, "text/plain", "not found\n"
