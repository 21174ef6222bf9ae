"""Reports of mirrors, through the door."""

from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote

import pytest

from tests.conftest import Kitchen, Time, bearer
from tests.faces.test_report import BAD_JSON, BAD_TEXT, FORM


async def tried(kitchen: Kitchen, mirror: dict[str, Any], **request: Any) -> int:
    query = request.pop("query", "")
    headers = {**bearer(mirror["token"]), **request.pop("headers", {})}
    answer = await kitchen.anyone.patch(f"/api/cdn/{mirror['id']}{query}", headers=headers, **request)
    return answer.status_code


def just_now(seen: dict[str, Any], clocks: Time) -> bool:
    """Whether a mirror was last seen now, less what handling its report really took."""
    ago = clocks.now - datetime.fromisoformat(seen["last_seen"])
    return timedelta(0) <= ago < timedelta(seconds=4)


WAYS = {
    "query": lambda status: {"query": f"?status={status}"},
    "json": lambda status: {"json": {"status": status}},
    "json-text": lambda status: {"json": {"status": str(status)}},
    "form": lambda status: {"data": {"status": str(status)}},
    "curl": lambda status: {"content": f'{{"status":{status}}}', "headers": {"content-type": FORM.decode()}},
    "both": lambda status: {"query": f"?status={status}", "json": {"status": status}},
}


@pytest.mark.row("S11", "S14")
@pytest.mark.parametrize("way", WAYS)
async def test_a_report(kitchen: Kitchen, clocks: Time, way: str) -> None:
    """
    A report is taken from the query, as JSON or as a form; the list shows it and the moment it came.
    """
    mirror = await kitchen.mirror("a.example", status=None)
    for status in (1, 2, 3):
        clocks.forward(5)

        assert 200 == await tried(kitchen, mirror, **WAYS[way](status))
        seen = (await kitchen.listed())["a.example"]
        assert (status, True) == (seen["status"], seen["online"])
        assert just_now(seen, clocks)


@pytest.mark.row("S14")
async def test_the_same_report_again(kitchen: Kitchen, clocks: Time) -> None:
    """
    A report that says the same as before still moves the time.
    """
    mirror = await kitchen.mirror("a.example", status=2)
    clocks.forward(30)
    await kitchen.report(mirror, status=2)

    assert just_now((await kitchen.listed())["a.example"], clocks)


@pytest.mark.row("S11", "S14")
@pytest.mark.parametrize("status", [1, 2, 3])
async def test_a_heartbeat_keeps_the_status(kitchen: Kitchen, clocks: Time, status: int) -> None:
    """
    A report without a status moves the time and leaves the rest as it was.
    """
    mirror = await kitchen.mirror("a.example", status=None)
    await kitchen.report(mirror, status=status, message="low disk", synced_to=0)
    for nothing in ({}, {"json": {}}, {"content": ""}):
        clocks.forward(30)

        assert 200 == await tried(kitchen, mirror, **nothing)
        seen = (await kitchen.listed())["a.example"]
        assert (status, "low disk", 0) == (seen["status"], seen["message"], seen["synced_to"])
        assert just_now(seen, clocks)


@pytest.mark.row("S11")
@pytest.mark.parametrize("status", [None, 0])
async def test_a_heartbeat_after_a_zero(kitchen: Kitchen, status: int | None) -> None:
    """
    A heartbeat makes 1 of 0, and is enough as a first report.
    """
    mirror = await kitchen.mirror("a.example", status=status)

    assert 200 == await tried(kitchen, mirror)
    seen = (await kitchen.listed())["a.example"]
    assert (1, True, None) == (seen["status"], seen["online"], seen["why"])


@pytest.mark.row("S12")
async def test_bad_reports_change_nothing(kitchen: Kitchen, clocks: Time) -> None:
    """
    After any bad status, wherever it stood, the mirror is as it was and was last seen when it was.
    """
    mirror = await kitchen.mirror("a.example", status=2)
    before = await kitchen.listed()
    clocks.forward(10)
    plain = {"content-type": "application/json"}
    tries: list[dict[str, Any]] = [{"query": f"?status={quote(text)}"} for text in BAD_TEXT]
    tries += [{"data": {"status": text}} for text in BAD_TEXT]
    tries += [{"content": f'{{"status":{value}}}', "headers": plain} for value in BAD_JSON]
    tries += [{"query": "?status"}, {"query": "?status=1", "json": {"status": 2}}]
    tries += [{"query": "?status=1", "data": {"status": "3"}}, {"query": "?status=1&status=1"}]
    tries += [{"content": text, "headers": plain} for text in ("[]", "1", '"1"', "null", "{", "status=1")]

    assert {400} == {await tried(kitchen, mirror, **each) for each in tries}
    assert before == await kitchen.listed()


async def test_a_report_that_is_too_long(kitchen: Kitchen) -> None:
    """
    A body beyond any report's size is refused before it is read to the end.
    """
    mirror = await kitchen.mirror("a.example")
    before = await kitchen.listed()

    assert 413 == await tried(kitchen, mirror, json={"status": 3, "mood": "x" * 300_000})
    assert 415 == await tried(kitchen, mirror, files={"status": b"3"})
    assert before == await kitchen.listed()


async def test_what_a_report_is_answered(kitchen: Kitchen) -> None:
    """
    The answer says how far the feed has come and when to report again (D19).
    """
    mirror = await kitchen.mirror("a.example")
    await kitchen.keep(b"leek")
    answer = (await kitchen.report(mirror, status=1)).json()

    assert {"epoch", "head", "interval", "now"} == set(answer)
    assert (1, 30) == (answer["head"], answer["interval"])


@pytest.mark.row("S13")
async def test_a_zero_leaves_at_once(kitchen: Kitchen) -> None:
    """
    A mirror that says 0 gets not one request more, until its next report.
    """
    digest = await kitchen.keep(b"leek")
    mirror = await kitchen.mirror("a.example")

    codes = [(await kitchen.anyone.get(f"/{digest}")).status_code]
    for status in (0, 1, 0, None):
        assert 200 == await tried(kitchen, mirror, json={} if status is None else {"status": status})
        codes.append((await kitchen.anyone.get(f"/{digest}")).status_code)

    assert [307, 200, 307, 200, 307] == codes


async def test_text_no_database_can_hold(kitchen: Kitchen) -> None:
    """
    One mirror's half of a character does not cost others that report in the same moment.
    """
    mirror = await kitchen.mirror("a.example")

    body = '{"status": 1, "message": "\\ud800"}'
    assert 400 == await tried(kitchen, mirror, content=body, headers={"content-type": "application/json"})
