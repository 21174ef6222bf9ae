"""What a mirror does not serve, and what pages may ask: one contract for nginx and Apache."""

from pathlib import Path

import pytest

from soup.faces.cors import CORS
from tests.mirror_servers import WebServer
from tests.web.asking import NOBODY, OTHER, TAG, D, ask

pytestmark = pytest.mark.sqlite  # rows have no part in it
METHODS = "GET, HEAD, OPTIONS"
FOLDER = "ab" * 32


NO_BLOB = {
    "upper case": f"/{D.upper()}",
    "63 digits": f"/{D[:-1]}",
    "65 digits": f"/{D}0",
    "a letter that is no digit": f"/{D[:-1]}g",
    "the place on disk": f"/{D[:3]}/{D}",
    "its folder": f"/{D[:3]}/",
    "its folder, without a slash": f"/{D[:3]}",
    "the root": "/",
    "a line after it": f"/{D}%0a",
    "a line before it": f"/%0a{D}",
    "zero after it": f"/{D}%00",
    "a slash after it": f"/{D}/",
    "an encoded slash": f"/{D}%2f",
    "two slashes": f"//{D}",
    "more after it": f"/{D}/x",
    "a folder with a dot": "/.soup-cdn/state",
    "a folder with a dot, listed": "/.soup-cdn/",
    "a blob in a folder with a dot": f"/.soup-cdn/{D}",
    "the health of something": "/healthz/x",
    "not quite health": "/healthz/",
    "above the root": "/../etc/passwd",
    "above the root, encoded": "/%2e%2e/etc/passwd",
    "above a folder": f"/{D[:3]}/../../../../etc/passwd",
}


@pytest.mark.row("S23", "S24", "S29", "S30", "S31")
@pytest.mark.parametrize("path", NO_BLOB.values(), ids=NO_BLOB)
def test_nothing_else_is_served(mirror: WebServer, path: str) -> None:
    """
    What is no digest is not found and not kept by anybody; no folder is ever listed.
    """
    answer = ask(mirror, path)

    assert answer.status == 404 or (answer.status == 400 and (".." in path or "%" in path))
    assert [] == answer.all("cache-control")
    assert b"passwd" not in answer.body
    assert b"root:" not in answer.body


def test_a_link_is_not_followed(mirror: WebServer) -> None:
    """
    A symbolic link in the folder leads nowhere.
    """
    answer = ask(mirror, f"/{'0' * 63}1")

    assert answer.status in {403, 404}
    assert b"root:" not in answer.body
    assert [] == answer.all("cache-control")


@pytest.mark.parametrize("asked", [{}, {"If_None_Match": "*"}])
def test_a_folder_in_the_place_of_a_blob(mirror: WebServer, blobs: Path, asked: dict[str, str]) -> None:
    """
    Nobody is sent on to a path with a slash, which is none.
    """
    (blobs / FOLDER[:3] / FOLDER).mkdir(parents=True, exist_ok=True)

    answer = ask(mirror, f"/{FOLDER}", **asked)

    assert answer.status in {403, 404}
    assert [] == answer.all("location") + answer.all("cache-control")


@pytest.mark.row("S35")
@pytest.mark.parametrize("asked", [{}, {"If_None_Match": "*"}, {"If_None_Match": f'"{NOBODY}"'}])
def test_a_blob_that_is_not_here(mirror: WebServer, asked: dict[str, str]) -> None:
    """
    It is not found, not even not modified; that is not kept, and a page may read it.
    """
    answer = ask(mirror, f"/{NOBODY}", **asked)

    assert 404 == answer.status
    assert [] == answer.all("cache-control") + answer.all("x-content-type-options") + answer.all("etag")
    assert ["*"] == answer.all("access-control-allow-origin")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "TRACE"])
def test_other_methods(mirror: WebServer, method: str) -> None:
    """
    A mirror is read. What it does not do, it says, and does not answer with the bytes.
    """
    answer = ask(mirror, f"/{D}", method, body=b"leek" if method != "TRACE" else None)

    assert 405 == answer.status
    assert len(answer.body) < 1000
    assert [] == answer.all("cache-control")
    assert METHODS == ", ".join(filter(None, answer.all("allow")))
    if method != "TRACE":  # nginx refuses it before it looks at the path
        assert ["*"] == answer.all("access-control-allow-origin")


@pytest.mark.parametrize("digest", [D, NOBODY])
def test_what_a_browser_asks_first(mirror: WebServer, digest: str) -> None:
    """
    A page of any site may ask for a part, with conditions, and need not ask again for a day.
    """
    asked = {"Access_Control_Request_Method": "GET", "Access_Control_Request_Headers": "range,if-range"}
    answer = ask(mirror, f"/{digest}", "OPTIONS", Origin="https://game.example", **asked)

    assert (204, b"") == (answer.status, answer.body)
    assert ["*"] == answer.all("access-control-allow-origin")
    assert [METHODS] == answer.all("access-control-allow-methods")
    assert ["86400"] == answer.all("access-control-max-age")
    allowed = answer.all("access-control-allow-headers")[0].split(", ")
    assert {"Authorization", "If-Match", "If-None-Match", "If-Range", "Range"} <= set(allowed)
    assert [] == answer.all("cache-control")


@pytest.mark.row("C12")
@pytest.mark.parametrize("asked", [{}, {"Range": "bytes=0-1"}, {"If_None_Match": TAG}, {"If_Match": OTHER}])
def test_what_a_page_may_read(mirror: WebServer, asked: dict[str, str]) -> None:
    """
    Every answer of a blob's path, with those headers of it that the core would show as well.
    """
    answer = ask(mirror, f"/{D}", Origin="https://game.example", **asked)

    exposed = answer.all("access-control-expose-headers")[0].split(", ")
    assert ["*"] == answer.all("access-control-allow-origin")
    assert ["Accept-Ranges", "Content-Range", "ETag"] == exposed
    assert set(exposed) <= set(dict(CORS)[b"access-control-expose-headers"].decode().split(", "))
