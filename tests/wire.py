"""What tests on the wire share: connections of our own, a web server for a mirror, what lies on disk."""

import json
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.message import Message
from email.parser import BytesHeaderParser
from pathlib import Path
from typing import Self

from tests.conftest import Server, program
from tests.databases import KIND, free_port

MIB = 1024 * 1024


@dataclass
class Answer:
    """What came back. `continued`: a 100 came before it."""

    status: int
    headers: Message
    body: bytes
    continued: bool


class Wire:
    """A connection on which a test says exactly what it wants."""

    def __init__(self, port: int, seconds: float = 15) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=seconds)
        self.read = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> Self:
        self.socket.sendall(data)
        return self

    def ask(self, line: str, *headers: str, body: bytes = b"") -> Self:
        """A request, with a Host; nothing is added to it besides."""
        return self.send("\r\n".join([f"{line} HTTP/1.1", "Host: soup", *headers, "", ""]).encode() + body)

    def head(self) -> tuple[int, Message]:
        """The next status line and its headers."""
        while b"\r\n\r\n" not in self.read:
            self._more()
        head, _, self.read = self.read.partition(b"\r\n\r\n")
        line, _, rest = head.partition(b"\r\n")
        return int(line.split()[1]), BytesHeaderParser().parsebytes(rest)

    def answer(self, *, bodyless: bool = False) -> Answer:
        """The next answer that is final, whole."""
        code, headers = self.head()
        continued = code == 100
        while code == 100:
            code, headers = self.head()
        length = 0 if bodyless or code in {204, 304} else int(headers["content-length"])
        while len(self.read) < length:
            self._more()
        body, self.read = self.read[:length], self.read[length:]
        return Answer(code, headers, body, continued)

    def ended(self) -> bool:
        """Whether the other side ends the connection without a word more."""
        try:
            return not self.read and not self.socket.recv(1)
        except ConnectionError:
            return True

    def _more(self) -> None:
        piece = self.socket.recv(65_536)
        assert piece, f"the connection ended after {self.read[:200]!r}"
        self.read += piece


def wire(server: Server) -> Wire:
    return Wire(server.port)


def until(true: Callable[[], object], seconds: float = 10) -> float:
    """Wait for it; how long that took."""
    began = time.monotonic()
    while not true():
        assert time.monotonic() - began < seconds, "it did not happen"
        time.sleep(0.02)
    return time.monotonic() - began


def files(server: Server) -> list[str]:
    """Every file of the store that holds bytes of a client, the spool's too."""
    blobs = server.data / "blobs"
    found = (path for path in blobs.rglob("*") if path.is_file() and path.name != "soup-store.json")
    return sorted(str(path.relative_to(blobs)) for path in found)


def spools(server: Server) -> int:
    """How many files without a name the workers hold open: uploads under way."""
    links = (link for pid in server.workers() for link in Path(f"/proc/{pid}/fd").iterdir())
    return sum("/.spool/" in _target(link) for link in links)


def _target(link: Path) -> str:
    try:
        return str(link.readlink())
    except FileNotFoundError:
        return ""


def rows(server: Server) -> list[str]:
    """The digests the database knows."""
    return [bytes(raw).hex() for (raw,) in KIND.ask(server.data, "select digest from blob order by digest")]


def kept(server: Server) -> tuple[list[str], list[str], int]:
    """Everything an upload could leave behind."""
    return files(server), rows(server), spools(server)


def counter(server: Server, name: str) -> float:
    """A metric, over both workers; 0 where it has not moved yet."""
    lines = server.client.get("/metrics").text.splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.split("{")[0].split(" ")[0] == name)


def judge(answer: Answer, *wanted: int) -> None:
    """It is a problem document with one of these statuses, and says which request it is about."""
    assert answer.status in wanted
    problem = json.loads(answer.body)
    assert "application/problem+json" == answer.headers["content-type"]
    assert {"type", "title", "status", "detail"} <= problem.keys()
    assert answer.status == problem["status"]
    assert problem["title"]
    assert problem["detail"]
    assert answer.headers["x-request-id"]
    assert answer.headers["x-request-id"] == answer.headers["x-amz-request-id"]


def standing(server: Server, digest: str) -> tuple[object, object]:
    """What the database says of the blob and of the mirrors, but for their age."""
    blob = server.client.get(f"/api/blob/{digest}", headers=server.admin).json()
    mirrors = server.client.get("/api/cdn:list", headers=server.admin).json()
    return blob, mirrors


MIRROR = """
location ~ "^/([0-9a-f]{3})([0-9a-f]{61})$" {
    alias %(folder)s/$1/$1$2;
    default_type application/octet-stream;
    add_header Access-Control-Allow-Origin * always;
}
"""


@contextmanager
def nginx(folder: Path, body: str) -> Iterator[int]:
    """An nginx of our own with this inside its `http`, `%(port)d` being where it listens. Yields the port."""
    port = free_port()
    folder.mkdir(parents=True, exist_ok=True)
    temporary = "".join(
        f"{kind}_temp_path {folder}/{kind};\n"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    user = "user root;\n" if Path("/proc/self").stat().st_uid == 0 else ""  # pytest's folders are its own
    conf = folder / "nginx.conf"
    conf.write_text(
        f"{user}daemon off;\nworker_processes 1;\npid {folder}/pid;\nerror_log {folder}/error.log;\n"
        f"events {{ worker_connections 128; }}\nhttp {{\naccess_log {folder}/access.log;\n{temporary}"
        f"{body.replace('%(port)d', str(port))}\n}}\n"
    )
    process = subprocess.Popen([program("nginx"), "-e", f"{folder}/error.log", "-c", conf, "-p", folder])
    try:
        until(lambda: process.poll() is not None or listens(port))
        assert process.poll() is None, (folder / "error.log").read_text()
        yield port
    finally:
        process.terminate()
        process.wait(10)


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def web_server(folder: Path, blobs: Path) -> Iterator[int]:
    """A plain nginx that serves a folder of blobs as the mirror's configuration says."""
    inside = f"server {{ listen 127.0.0.1:%(port)d; {MIRROR.replace('%(folder)s', str(blobs))} }}"
    with nginx(folder, inside) as port:
        yield port
