"""Mirrors asked from outside: what their answers come to."""

import pytest
from structlog.testing import capture_logs

from soup import metrics
from soup.runner import outside
from tests.conftest import Time, sha256
from tests.runner.auditing import LARGE, LEEK, Audited, count

WRONG = ("404", "500", "page", "short", "wrong", "another", "elsewhere")


@pytest.mark.row("C31")
@pytest.mark.parametrize("blob", [LEEK, LARGE, b""], ids=["small", "large", "empty"])
async def test_a_mirror_that_is_well(audited: Audited, clocks: Time, blob: bytes) -> None:
    """
    It is asked for a blob, answers rightly, and the list says when.
    """
    await audited.add(blob)
    before = count("passed")

    assert None is (await audited.seen())["audited_at"]
    assert 1 == await audited.run()

    assert clocks.now.isoformat() == (await audited.seen())["audited_at"].replace(".000Z", "+00:00")
    assert None is await audited.reason()
    assert before + 1 == count("passed")


@pytest.mark.row("C31")
@pytest.mark.parametrize("blob", [LEEK, LARGE], ids=["small", "large"])
@pytest.mark.parametrize("way", WRONG)
async def test_a_wrong_answer(audited: Audited, way: str, blob: bytes) -> None:
    """
    It is doubted at once, whatever it says of itself, and chosen again when it has passed.
    """
    await audited.add(blob)
    digest, before = audited.web.add(blob), count("wrong")
    audited.web.way = way

    with capture_logs() as logs:
        await audited.run()

    seen = await audited.seen()
    assert digest[:8] in seen["doubt"]["reason"]
    assert (1, True, f"it is doubted: {seen['doubt']['reason']}") == (
        seen["status"],
        seen["online"],
        seen["why"],
    )
    assert 200 == (await audited.kitchen.anyone.get(f"/{digest}")).status_code
    assert [("mirror.doubted", seen["doubt"]["reason"])] == [(log["event"], log["reason"]) for log in logs]
    assert before + 1 == count("wrong")
    assert 1 == metrics.MIRRORS.labels("doubted")._value.get()

    audited.web.way = "well"
    with capture_logs() as logs:
        await audited.run()

    assert None is await audited.reason()
    assert 307 == (await audited.kitchen.anyone.get(f"/{digest}")).status_code
    assert ["mirror.cleared"] == [log["event"] for log in logs]
    assert 0 == metrics.MIRRORS.labels("doubted")._value.get()


@pytest.mark.parametrize(("way", "blob"), [("whole", LARGE), ("long", LARGE)])
async def test_another_right_answer(audited: Audited, way: str, blob: bytes) -> None:
    """
    A server that knows no ranges sends the whole: its first bytes are read and compared, and no more.
    """
    await audited.add(blob)
    audited.web.way = way

    await audited.run()

    assert None is await audited.reason()
    assert (await audited.seen())["audited_at"]


@pytest.mark.parametrize("way", ["other range", "wrong whole"])
async def test_another_wrong_answer(audited: Audited, way: str) -> None:
    """
    Another range than was asked for is doubted, and wrong bytes are where ranges are not known.
    """
    await audited.add(LARGE)
    audited.web.way = way.removeprefix("wrong ")
    if way == "wrong whole":
        audited.web.blobs[sha256(LARGE)] = LARGE[::-1]

    await audited.run()

    assert sha256(LARGE)[:8] in (await audited.reason() or "")


async def test_a_range_without_end(audited: Audited) -> None:
    """
    Of what it says instead of the range as much is written down as tells somebody what it was.
    """
    await audited.add(LARGE)
    audited.web.way = "endless range"

    await audited.run()

    reason = await audited.reason() or ""
    assert reason.startswith("it answered 'bytes 9999")
    assert len(reason) < 200


async def test_too_much(audited: Audited) -> None:
    """
    More bytes than a small blob has are wrong.
    """
    await audited.add(LEEK)
    audited.web.way = "long"

    await audited.run()

    assert f"it sent more than the 4 bytes of {sha256(LEEK)[:8]}..." == await audited.reason()


@pytest.mark.row("S8")
@pytest.mark.parametrize("way", ["hang", "halfway", "close", "nobody", "not HTTP"])
async def test_no_answer(audited: Audited, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    It is doubted after a second try where it has passed before; where it never has, nothing is known of it.
    """
    monkeypatch.setattr(outside, "SECONDS", 0.2)
    await audited.add(LEEK)
    web, before = audited.web, count("silent")

    async def fall() -> None:
        web.way, web.asked = way, []
        if way == "nobody":
            await web.stop()

    await fall()
    await audited.run()
    assert [None, None] == [await audited.reason(), (await audited.seen())["audited_at"]]
    assert 307 == (await audited.kitchen.anyone.get(f"/{sha256(LEEK)}")).status_code
    web.way = "well"
    await web.start()
    await audited.run()
    await fall()
    await audited.run()

    assert str(await audited.reason()).startswith("no answer")
    assert (0 if way == "nobody" else 2) == len(web.asked)
    assert before + 2 == count("silent")
    await audited.run()
    assert (0 if way == "nobody" else 3) == len(web.asked)  # who is doubted is asked once
    web.way = "well"
    await web.start()
    await audited.run()
    assert None is await audited.reason()


async def test_a_second_try(audited: Audited) -> None:
    """
    One connection that is lost says nothing.
    """
    await audited.add(LEEK)
    await audited.run()
    audited.web.way = "once"

    await audited.run()

    assert "well" == audited.web.way
    assert 3 == len(audited.web.asked)
    assert None is await audited.reason()
