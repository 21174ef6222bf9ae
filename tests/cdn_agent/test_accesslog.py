"""What the access log says was delivered, through every way of rotating one."""

import json
import os
import tracemalloc
from pathlib import Path

import pytest
from soup_cdn_agent.accesslog import MOST, PIECE, AccessLog, Place
from soup_cdn_agent.core import AGENT
from soup_cdn_agent.probe import LOOKS

from tests.folders import handles

D = "ab" * 32


def line(
    path: str = f"/{D}", status: int = 200, told: object = 100, method: str = "GET", more: str = ""
) -> str:
    """As nginx writes it; with `more` as Apache does."""
    asked = f'"{method} {path} HTTP/1.1" {status} {told} "-" "curl/7.88.1"'
    return f"192.0.2.7 - - [21/Nov/2026:12:00:00 +0000] {asked}{more}\n"


class Log:
    """A log in a folder, and who reads it."""

    def __init__(self, path: Path) -> None:
        self.path, self.place = path, Place()
        path.touch()
        self.read()

    def write(self, *lines: str, path: Path | None = None) -> None:
        with (path or self.path).open("a") as file:
            file.writelines(lines)

    def read(self) -> tuple[int, int]:
        """Requests and bytes since the last time, by a reader that knows only the place."""
        place, requests, size = AccessLog([self.path]).read(json.loads(json.dumps(self.place)))
        self.place = place
        return requests, size

    def rotate(self, name: str = "access.log.1") -> Path:
        return self.path.rename(self.path.with_name(name))


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path / "access.log")


COUNTED = {
    "a blob": (line(), 100),
    "a part": (line(status=206, told=10), 10),
    "with a query": (line(f"/{D}?download=leek"), 100),
    "with the host in its URL": (line(f"http://mirror.example:80/{D}"), 100),
    "with the host in its URL, by https": (line(f"HTTPS://mirror.example/{D}?a", 206), 100),
    "nothing of it": (line(told=0), 0),
    "by HTTP/1.0": (line().replace("HTTP/1.1", "HTTP/1.0"), 100),
    "by HTTP/2": (line().replace("HTTP/1.1", "HTTP/2.0"), 100),
    "by Apache": (line(more=" 420"), 100),
    "by Apache, broken off": (line(more=" 42"), 42),
    "in common format": (f'192.0.2.7 - - [21/Nov/2026:12:00:00 +0000] "GET /{D} HTTP/1.1" 200 100\n', 100),
    "by a client with a strange name": (line().replace("curl/7.88.1", 'a\\" 7'), 100),
    "by another one": (line(more=" 42").replace("curl/7.88.1", r"\x22 \"7\" 9"), 42),
    "by another mirror's agent": (line().replace("curl/7.88.1", AGENT), 100),
    "with a host before it": ("mirror.example:443 " + line(), 100),
}
NOT_COUNTED = {
    "not found": line(status=404),
    "not modified": line(status=304, told=0),
    "not satisfiable": line(status=416),
    "headers alone": line(method="HEAD"),
    "posted": line(method="POST"),
    "another page": line("/index.html"),
    "63 digits": line(f"/{D[1:]}"),
    "65 digits": line(f"/{D}0"),
    "upper case": line(f"/{D.upper()}"),
    "in a folder": line(f"/{D[:3]}/{D}"),
    "no figure": line(told="-"),
    "another page, with the host in its URL": line(f"http://mirror.example/x/{D}"),
    "in a referrer": line("/").replace('"-"', f'"GET /{D} HTTP/1.1" 200 100'),
    "the agent's own look": line(more=" 420").replace("curl/7.88.1", LOOKS),
    "the core's look": line().replace("curl/7.88.1", "soup audit"),
    "an empty line": "\n",
    "no line of a log": "leek\n",
    "zeros": "\0" * 5000 + "\n",
}


@pytest.mark.parametrize("what", COUNTED)
def test_what_counts(log: Log, what: str) -> None:
    """
    A blob that was sent, or a part of it, with as many bytes as went out.
    """
    written, size = COUNTED[what]
    log.write(written)

    assert (1, size) == log.read()


@pytest.mark.parametrize("what", NOT_COUNTED)
def test_what_does_not_count(log: Log, what: str) -> None:
    """
    Everything else, and it does not keep the next line from being counted.
    """
    log.write(NOT_COUNTED[what], line(told=7))

    assert (1, 7) == log.read()


def test_a_log_that_is_there(tmp_path: Path) -> None:
    """
    The first look begins at the end of it, however long it is.
    """
    log = Log(tmp_path / "access.log")
    log.write(line() * 1000)
    log.place = Place()
    assert (0, 0) == log.read()
    log.write(line(told=3))

    assert (1, 3) == log.read()
    assert (0, 0) == log.read()


def test_a_log_that_comes_later(tmp_path: Path) -> None:
    """
    A log that was not there at the first look is counted from its beginning.
    """
    log = Log(tmp_path / "access.log")
    log.path.unlink()
    log.place = Place()
    assert (0, 0) == log.read()
    log.write(line(told=3))

    assert (1, 3) == log.read()


def test_nothing_new(log: Log) -> None:
    """
    The place is then the same, and nothing stays open.
    """
    log.write(line())
    log.read()
    before, opened = log.place, handles()

    assert (0, 0) == log.read()
    assert (before, opened) == (log.place, handles())


def test_a_line_that_is_being_written(log: Log) -> None:
    """
    It is counted once, when its end is there.
    """
    log.write(line(told=1), line(told=20)[:-30])
    assert (1, 1) == log.read()
    log.write(line(told=20)[-30:-1])
    assert (0, 0) == log.read()
    log.write("\n")

    assert (1, 20) == log.read()


def test_a_line_without_an_end(log: Log) -> None:
    """
    Megabytes of anything are passed over.
    """
    log.write("x" * (3 * PIECE + 5))
    assert (0, 0) == log.read()
    log.write("x\n", line(told=3))

    assert (1, 3) == log.read()


@pytest.mark.parametrize("name", ["access.log.1", "access.log-20261121", "access.log.2026-11-21"])
def test_renamed(log: Log, name: str) -> None:
    """
    What was written to the old log before and after it was renamed counts, and then the new one.
    """
    log.write(line(told=1))
    assert (1, 1) == log.read()
    log.write(line(told=20))
    old = log.rotate(name)
    assert (1, 20) == log.read()
    log.write(line(told=300), path=old)
    log.write(line(told=4000))
    assert (2, 4300) == log.read()
    log.write(line(told=50000), path=old)

    assert (1, 50000) == log.read()


def test_renamed_again_and_again(log: Log) -> None:
    """
    The names go on by one; the files are known all the same. What was packed is let go.
    """
    for _ in range(3):
        log.write(line(told=1))
        for number in (2, 1):
            if (old := log.path.with_name(f"access.log.{number}")).exists():
                old.rename(log.path.with_name(f"access.log.{number + 1}"))
        log.rotate()
        log.write(line(told=20))
        assert (2, 21) == log.read()
    assert 3 == len(log.place[str(log.path)])
    for number in (1, 2, 3):
        log.path.with_name(f"access.log.{number}").unlink()

    assert (0, 0) == log.read()
    assert 1 == len(log.place[str(log.path)])


def test_renamed_while_nobody_looked(log: Log) -> None:
    """
    An agent that was away finds the rest of the old log.
    """
    log.write(line(told=1))
    log.rotate()
    log.write(line(told=20))

    assert (2, 21) == log.read()


def test_a_new_log_in_the_place_of_a_removed_one(log: Log) -> None:
    """
    A file system may give a new log the number of an old one: it is new from its beginning.
    """
    log.write(line() * 10)
    log.read()
    first = log.rotate()
    log.write(line(told=1))
    log.read()
    log.rotate("access.log.2")
    os.truncate(first, 0)
    first.rename(log.path)
    log.write(line(told=20) * 20)

    assert (20, 400) == log.read()


def test_copied_and_emptied(log: Log) -> None:
    """
    A log that is shorter than before is read from its beginning.
    """
    log.write(line() * 10)
    log.read()
    os.truncate(log.path, 0)
    log.write(line(told=3))

    assert (1, 3) == log.read()


def test_gone_and_back(log: Log) -> None:
    """
    While there is no log nothing is counted, and nothing is counted twice.
    """
    log.write(line())
    log.read()
    log.write(line(told=20))
    log.rotate()
    assert (1, 20) == log.read()
    assert (0, 0) == log.read()
    log.write(line(told=3))

    assert (1, 3) == log.read()


def test_a_long_log(log: Log) -> None:
    """
    A call reads 8 MiB at most, in pieces, so that memory stays small; the next one goes on.
    """
    one = line(told=1)
    lines = 2 * MOST // len(one) + 10
    log.write(one * lines)

    tracemalloc.start()
    counted = log.read()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert MOST // len(one) <= counted[0] <= (MOST + PIECE) // len(one)
    assert peak < 4 * PIECE
    assert lines == counted[0] + log.read()[0] + log.read()[0]


def test_several_logs(tmp_path: Path) -> None:
    """
    They are counted together, each from its own place; one that cannot be read is said and is no harm.
    """
    names = [tmp_path / name for name in ("one.log", "other.log", "pipe", "folder")]
    for name in names[:2]:
        name.touch()
    os.mkfifo(names[2])
    names[3].mkdir()
    logs = AccessLog(names)
    place, _, _ = logs.read({})
    names[0].write_text(line(told=1))
    names[1].write_text(line(told=20))

    assert (2, 21) == logs.read(place)[1:]
    assert {str(names[2]): "is not a file", str(names[3]): "is not a file"} == logs.faults
