"""What wrk prints, and who answers wrongly."""

import http.client
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from random import Random

import pytest

from bench import checks, load
from bench.blobs import Deck, deck, raws, skewed
from bench.figures import Wrong
from bench.load import Wrk, checking, parsed
from bench.servers import Server

PRINTED = """Running 1s test @ http://127.0.0.1:8080
  1 threads and 64 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     1.51ms  200.11us   5.00ms   90.00%
    Req/Sec    42.00k     1.00k   43.00k    90.00%
  42000 requests in 1.05s, 10.00MB read
{more}Requests/sec:  40000.00
Transfer/sec:      9.52MB
"""


def test_all_is_well() -> None:
    """
    Rate and answers are read; errors are not there where wrk has none.
    """
    found = parsed(PRINTED.format(more=""))

    assert Wrk(40000.0, 42000, 0, 0) == found
    assert 1.05 == pytest.approx(found.seconds)


def test_refusals_and_errors() -> None:
    """
    Answers that are no success are counted, and whatever went wrong with sockets.
    """
    more = "  Socket errors: connect 1, read 2, write 3, timeout 4\n  Non-2xx or 3xx responses: 41\n"

    assert Wrk(40000.0, 42000, 41, 10) == parsed(PRINTED.format(more=more))


def test_not_from_wrk() -> None:
    """
    Anything else is no figure.
    """
    with pytest.raises(ValueError, match="unable to connect"):
        parsed("unable to connect to 127.0.0.1:1 Connection refused")


def test_digests_of_a_deck(tmp_path) -> None:
    """
    They stand in a file, are the same each time, and begin anew at its end.
    """
    found = deck(tmp_path / "known", 100)
    found.move(230)

    assert [raw.hex() for raw in raws(100)] == found.file.read_text().splitlines()
    assert Deck(tmp_path / "known", 100, 30) == found


def test_a_skewed_deck(tmp_path) -> None:
    """
    Nine of ten requests are for a tenth of the blobs.
    """
    lines = skewed(tmp_path / "skewed", 1000, 10_000).file.read_text().splitlines()
    hot = {raw.hex() for raw in raws(100)}

    assert 0.9 == pytest.approx(sum(line in hot for line in lines) / 10_000, abs=0.02)


class Liar(BaseHTTPRequestHandler):
    """A soup that sends everybody to a stranger."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(307)
        self.send_header("Location", f"https://stranger.example{self.path}")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def liar() -> Iterator[Server]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Liar)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield Server("liar", server.server_port, (0,))
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_wrong_answer_ends_it(liar, tmp_path) -> None:
    """
    Who is sent elsewhere than to a mirror is noticed beside the load, and no figure counts.
    """
    known = deck(tmp_path / "known", 10)
    right = checks.redirect(known, Random(1))

    with pytest.raises(Wrong, match=r"liar: .*stranger\.example"), checking(liar, right, 0.001):
        threading.Event().wait(0.2)


def test_nobody_there(tmp_path) -> None:
    """
    No answer is a wrong one.
    """
    known = deck(tmp_path / "known", 10)
    closed = Server("nobody", 1, (0,))

    check = checks.notfound(known, Random(1))

    with pytest.raises(Wrong, match="nobody: ConnectionRefused"), checking(closed, check, 0.001):
        threading.Event().wait(0.2)


def test_a_check_that_never_ran() -> None:
    """
    A round in which nothing was looked at is none.
    """

    def right(_: http.client.HTTPConnection) -> str:
        return ""

    with pytest.raises(Wrong, match="no answer was checked"), checking(Server("soup", 1, (0,)), right, 60):
        pass


def test_scripts_are_there() -> None:
    """
    What lies beside the bench is given to wrk.
    """
    assert load.GET.exists()
    assert load.PUT.exists()
