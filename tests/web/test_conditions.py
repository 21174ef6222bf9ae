"""Parts of a blob and conditions: one contract, kept by nginx and Apache with the files soup ships."""

from pathlib import Path

import pytest

from tests.conftest import Servers
from tests.mirror_servers import WebServer
from tests.web.asking import FOREVER, LARGE, OTHER, TAG, D, ask

pytestmark = pytest.mark.sqlite  # rows have no part in it


@pytest.mark.row("S37")
@pytest.mark.parametrize(
    ("asked", "first", "last"),
    [
        ("bytes=0-0", 0, 0),
        ("bytes=100-199", 100, 199),
        ("bytes=3145727-", 3145727, 3145727),
        ("bytes=-100", 3145628, 3145727),
        ("bytes=1048576-99999999", 1048576, 3145727),
    ],
)
def test_a_range(mirror: WebServer, asked: str, first: int, last: int) -> None:
    """
    A part, for as long as the whole.
    """
    answer = ask(mirror, f"/{D}", Range=asked)

    assert (206, LARGE[first : last + 1]) == (answer.status, answer.body)
    assert [f"bytes {first}-{last}/{len(LARGE)}"] == answer.all("content-range")
    assert ([FOREVER], ["nosniff"], [TAG]) == (
        answer.all("cache-control"),
        answer.all("x-content-type-options"),
        answer.all("etag"),
    )


@pytest.mark.row("S37")
@pytest.mark.parametrize("asked", ["bytes=0-1,5-6", "bytes=-5,0-0,7-8", "leeks=0-1"])
def test_ranges_that_get_the_whole(mirror: WebServer, asked: str) -> None:
    """
    Several at once, or of another unit.
    """
    answer = ask(mirror, f"/{D}", Range=asked)

    assert (200, LARGE) == (answer.status, answer.body)


def test_a_range_behind_the_end(mirror: WebServer) -> None:
    """
    416 with the size, each header once, and nobody keeps that.
    """
    answer = ask(mirror, f"/{D}", Range="bytes=3145728-")

    assert 416 == answer.status
    assert [f"bytes */{len(LARGE)}"] == answer.all("content-range")
    assert ["*"] == answer.all("access-control-allow-origin")
    # nginx says the year before it looks at the range, and then what outweighs it.
    assert set(answer.all("cache-control")) == ({FOREVER, "no-store"} if mirror.kind == "nginx" else set())


CONDITIONS = {
    "known": ({"If_None_Match": TAG}, 304),
    "known among others": ({"If_None_Match": f'{OTHER}, W/{TAG},"x"'}, 304),
    "known among others, first": ({"If_None_Match": f"{TAG},{OTHER}"}, 304),
    "known at all": ({"If_None_Match": "*"}, 304),
    "known, and a part": ({"If_None_Match": TAG, "Range": "bytes=0-1"}, 304),
    "known, and anything": ({"If_None_Match": TAG, "If_Match": "*"}, 304),
    "known at all, and anything": ({"If_None_Match": "*", "If_Match": "*"}, 304),
    "known, and this": ({"If_None_Match": TAG, "If_Match": TAG}, 304),
    "known at all, and this": ({"If_None_Match": "*", "If_Match": TAG}, 304),
    "known, and something else": ({"If_None_Match": TAG, "If_Match": OTHER}, 412),
    "known at all, and something else": ({"If_None_Match": "*", "If_Match": OTHER}, 412),
    "known, and something alike": ({"If_None_Match": TAG, "If_Match": f"W/{TAG}"}, 412),
    "not known": ({"If_None_Match": OTHER}, 200),
    "not known, but at a time": ({"If_None_Match": OTHER, "If_Modified_Since": "{time}"}, 200),
    "no tag": ({"If_None_Match": D}, 200),
    "the digest in another tag": ({"If_None_Match": f'"x{D}"'}, 200),
    "since then": ({"If_Modified_Since": "{time}"}, 200),
    "since a day to come": ({"If_Modified_Since": "Sat, 21 Nov 2076 12:00:00 GMT"}, 200),
    "a part of this": ({"Range": "bytes=0-1", "If_Range": TAG}, 206),
    "a part of something else": ({"Range": "bytes=0-1", "If_Range": OTHER}, 200),
    "a part of something alike": ({"Range": "bytes=0-1", "If_Range": f"W/{TAG}"}, 200),
    "a part of another day": ({"Range": "bytes=0-1", "If_Range": "Sat, 21 Nov 1976 12:00:00 GMT"}, 200),
    "anything": ({"If_Match": "*"}, 200),
    "something else alone": ({"If_Match": OTHER}, 412),
    "something alike alone": ({"If_Match": f"W/{TAG}"}, 412),
}


@pytest.mark.row("S35", "S37")
@pytest.mark.parametrize("what", CONDITIONS)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_conditions(mirror: WebServer, method: str, what: str) -> None:
    """
    They are judged by the digest, as the core judges them, and never by the time of the file.
    """
    asked, status = CONDITIONS[what]
    time = ask(mirror, f"/{D}", "HEAD").all("last-modified")[0]

    answer = ask(mirror, f"/{D}", method, **{name: value.format(time=time) for name, value in asked.items()})

    sent = {200: LARGE, 206: LARGE[:2], 304: b""}
    assert status == answer.status
    assert ["*"] == answer.all("access-control-allow-origin")
    if status == 412:
        assert [] == answer.all("cache-control")
    else:
        assert (b"" if method == "HEAD" else sent[status]) == answer.body
        assert ([FOREVER], [TAG]) == (answer.all("cache-control"), answer.all("etag"))
        assert ["nosniff"] == answer.all("x-content-type-options")


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_what_a_304_says(mirror: WebServer, method: str) -> None:
    """
    When the file was written, and of its length the truth or nothing.
    """
    answer, whole = ask(mirror, f"/{D}", method, If_None_Match=TAG), ask(mirror, f"/{D}", "HEAD")

    assert answer.all("content-length") in ([], [str(len(LARGE))])
    assert answer.all("content-range") + answer.all("transfer-encoding") == []
    assert whole.all("last-modified") == answer.all("last-modified")
    assert ["Accept-Ranges, Content-Range, ETag"] == answer.all("access-control-expose-headers")


def test_a_tag_of_its_own(mirrors: dict[str, WebServer], blobs: Path) -> None:
    """
    Of time and size, as nginx would make one: it is no tag of the blob, and nothing is known by it.
    """
    status = (blobs / D[:3] / D).stat()
    own = f'"{int(status.st_mtime):x}-{status.st_size:x}"'

    assert 200 == ask(mirrors["nginx"], f"/{D}", If_None_Match=own).status


def test_only_this_one(mirrors: dict[str, WebServer]) -> None:
    """
    If-Match with the digest: Apache goes on, nginx cannot and refuses, which is safe.
    """
    answers = {kind: ask(mirror, f"/{D}", If_Match=TAG).status for kind, mirror in mirrors.items()}

    assert {"nginx": 412, "apache": 200} == answers


@pytest.mark.row("S35", "S37")
def test_a_download_that_moves(mirrors: dict[str, WebServer], serve: Servers) -> None:
    """
    A download that begins at nginx goes on at Apache and at the core, by the tag that the first one gave.
    """
    core = serve(cdn__redirects=False)
    core.keep(LARGE)
    began = ask(mirrors["nginx"], f"/{D}", Range="bytes=0-999999")
    tag = began.all("etag")[0]

    second = ask(mirrors["apache"], f"/{D}", Range="bytes=1000000-1999999", If_Range=tag)
    third = core.client.get(f"/{D}", headers={"Range": "bytes=2000000-2999999", "If-Range": tag})
    last = ask(mirrors["nginx"], f"/{D}", Range="bytes=3000000-", If_Range=third.headers["etag"])

    assert [206] * 4 == [began.status, second.status, third.status_code, last.status]
    assert began.body + second.body + third.content + last.body == LARGE
