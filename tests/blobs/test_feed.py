"""The feed: what readers are told of every change (D7)."""

import asyncio
import time
from typing import Any

import httpx
import pytest

from soup.blobs.service import Blobs
from soup.core.digest import Digest
from tests.blobs.conftest import LEEK, lease
from tests.conftest import Cook, Kitchen, Time, bearer

DAY = 86_400
KALE, CHARD = Digest.of(b"kale"), Digest.of(b"chard")


async def ask(kitchen: Kitchen, **query: Any) -> httpx.Response:
    return await kitchen.admin.get("/api/blob:changes", params=query)


async def changes(kitchen: Kitchen, **query: Any) -> dict[str, Any]:
    answer = await ask(kitchen, **query)
    assert 200 == answer.status_code, answer.text
    return dict(answer.json())


def brief(answer: dict[str, Any]) -> list[tuple[int, str, str]]:
    return [(one["seq"], one["digest"], one["state"]) for one in answer["changes"]]


async def forget(kitchen: Kitchen, clocks: Time, days: float) -> int:
    """Let time pass, and do what the jobs do then."""
    clocks.forward(days * DAY)
    await kitchen.soup.blobs.sweep(await lease(kitchen))
    return await kitchen.soup.blobs.trim(await lease(kitchen))


async def test_nothing_has_happened(kitchen: Kitchen) -> None:
    """
    A new soup has a history with a name and without a change.
    """
    answer = await changes(kitchen)

    assert {"epoch", "changes", "next", "head"} == set(answer)
    assert answer["epoch"]
    assert ([], 0, 0) == (answer["changes"], answer["next"], answer["head"])


async def test_one_row_for_a_digest(kitchen: Kitchen, clocks: Time) -> None:
    """
    Every change takes the next number; a digest stands once, with its last state, where its last change is.
    """
    await kitchen.keep(b"leek")
    await kitchen.keep(b"kale")
    expected = [(1, LEEK, "present"), (2, KALE, "present")]
    assert expected == brief(await changes(kitchen))

    url = f"/api/blob/{LEEK}"
    steps = [
        ("PATCH", {"json": {"blocked": True}}, "blocked"),
        ("PATCH", {"json": {"blocked": False}}, "present"),
        ("DELETE", {}, "gone"),
        ("PUT", {"content": b"leek"}, "present"),
        ("DELETE", {}, "gone"),
    ]
    for number, (method, more, state) in enumerate(steps, start=3):
        clocks.forward(1)
        answer = await kitchen.admin.request(method, url, **more)
        assert answer.is_success, answer.text

        found = await changes(kitchen)

        assert [(2, KALE, "present"), (number, LEEK, state)] == brief(found)
        assert number == found["next"] == found["head"]
        assert [(number, LEEK, state)] == brief(await changes(kitchen, after=number - 1))
    kale = {"seq": 2, "digest": KALE, "size": 4, "created_at": "2026-01-01T12:00:00.000Z", "state": "present"}
    assert kale == found["changes"][0]


async def test_what_is_no_change(kitchen: Kitchen) -> None:
    """
    Uploading what is here, blocking what is blocked and whatever is refused take no number.
    """
    await kitchen.keep(b"leek")
    await kitchen.keep(b"leek")
    url = f"/api/blob/{LEEK}"
    for blocked in (True, True):
        assert 200 == (await kitchen.admin.patch(url, json={"blocked": blocked})).status_code
    assert 410 == (await kitchen.admin.put(url, content=b"leek")).status_code
    assert 409 == (await kitchen.admin.delete(url)).status_code
    assert 404 == (await kitchen.admin.delete(f"/api/blob/{KALE}")).status_code
    assert 422 == (await kitchen.admin.put(f"/api/blob/{KALE}", content=b"leek")).status_code

    answer = await changes(kitchen)

    assert [(2, LEEK, "blocked")] == brief(answer)
    assert 2 == answer["head"]


async def test_pages(kitchen: Kitchen) -> None:
    """
    Pages follow each other by `next` without a gap or a repetition, whatever their size, and `head` is the
    end of all of them.
    """
    digests = [await kitchen.keep(b"%d" % number) for number in range(10)]
    await kitchen.admin.delete(f"/api/blob/{digests[3]}")  # 4 is a number that no row has any more
    expected = brief(await changes(kitchen))
    assert [*(n for n in range(1, 11) if n != 4), 11] == [seq for seq, _, _ in expected]
    for limit in (1, 2, 3, 5, 10, 11, 10_000):
        read, after = [], 0
        while after < 11:
            page = await changes(kitchen, after=after, limit=limit)
            assert 11 == page["head"]
            assert after < page["next"] <= 11
            assert 1 <= len(page["changes"]) <= limit
            read, after = [*read, *brief(page)], page["next"]

        assert expected == read

    end = await changes(kitchen, after=11)
    assert ([], 11, 11) == (end["changes"], end["next"], end["head"])


async def test_cursors_of_another_history(kitchen: Kitchen) -> None:
    """
    A cursor of another epoch, or above head, counts as 0: what it stood for never happened here.
    """
    await kitchen.keep(b"leek")
    await kitchen.keep(b"kale")
    whole = await changes(kitchen)
    epoch = whole["epoch"]
    assert 2 == len(whole["changes"])

    for query in (
        {"after": 1, "epoch": "another"},
        {"after": 2, "epoch": "another"},
        {"after": 1, "epoch": ""},
        {"after": 1, "epoch": epoch.upper() + "x"},
        {"after": 3},
        {"after": 3, "epoch": epoch},
        {"after": 2**31},
        {"after": 2**63},
        {"after": 10**30, "epoch": epoch},
    ):
        assert whole == await changes(kitchen, **query), query

    assert [(2, KALE, "present")] == brief(await changes(kitchen, after=1, epoch=epoch))
    assert [] == (await changes(kitchen, after=2, epoch=epoch))["changes"]


@pytest.mark.parametrize(
    "query",
    [
        "after=-1",
        "after=leek",
        "after=1.5",
        "after=",
        "after=0x10",
        "after=NaN",
        "after=" + "9" * 5000,
        "limit=0",
        "limit=-1",
        "limit=10001",
        "limit=all",
        "wait=26",
        "wait=25.01",
        "wait=-0.1",
        "wait=nan",
        "wait=inf",
        "wait=long",
    ],
)
async def test_bad_questions(kitchen: Kitchen, query: str) -> None:
    """
    What is no number, or outside its bounds, is refused with 400 at once, and what was wrong is named.
    """
    async with asyncio.timeout(5):
        answer = await kitchen.admin.get(f"/api/blob:changes?{query}")

    assert 400 == answer.status_code, answer.text
    assert "application/problem+json" == answer.headers["content-type"]
    assert query.partition("=")[0] in answer.text


async def test_who_may_read(kitchen: Kitchen) -> None:
    """
    The feed names every blob there is, so it needs a token; a mirror's will do.
    """
    mirror = await kitchen.mirror("m1.example")

    assert 401 == (await kitchen.anyone.get("/api/blob:changes")).status_code
    answer = await kitchen.anyone.get("/api/blob:changes", headers=bearer(mirror["token"]))
    assert 200 == answer.status_code


async def waiting(kitchen: Kitchen, **query: Any) -> asyncio.Task[dict[str, Any]]:
    """A reader that has asked and has no answer yet."""
    task = asyncio.create_task(changes(kitchen, **query))
    done, _ = await asyncio.wait([task], timeout=0.3)
    assert not done, task.result()
    return task


@pytest.mark.parametrize("act", ["keep", "delete", "block"])
async def test_waiting_for_a_change(kitchen: Kitchen, act: str) -> None:
    """
    Who waits is answered when something happens, and not before.
    """
    await kitchen.keep(b"kale")
    reader = await waiting(kitchen, after=1, wait=25)
    url = f"/api/blob/{KALE}"
    if act == "keep":
        await kitchen.keep(b"leek")
        expected = (2, LEEK, "present")
    elif act == "delete":
        await kitchen.admin.delete(url)
        expected = (2, KALE, "gone")
    else:
        await kitchen.admin.patch(url, json={"blocked": True})
        expected = (2, KALE, "blocked")

    answer = await asyncio.wait_for(reader, 1)

    assert [expected] == brief(answer)
    assert 2 == answer["next"] == answer["head"]


async def test_many_wait(kitchen: Kitchen) -> None:
    """
    One change answers everybody who waits, however many they are.
    """
    readers = [await waiting(kitchen, wait=25)]
    readers += [asyncio.create_task(changes(kitchen, wait=25)) for _ in range(50)]
    await asyncio.sleep(0)
    await kitchen.keep(b"leek")

    answers = await asyncio.wait_for(asyncio.gather(*readers), 5)

    assert 51 * [[(1, LEEK, "present")]] == [brief(answer) for answer in answers]


async def test_waiting_for_nothing(kitchen: Kitchen) -> None:
    """
    Where nothing happens the answer is empty, and comes after `wait`; a mirror's report is no change.
    """
    await kitchen.keep(b"leek")
    began = time.monotonic()
    reader = await waiting(kitchen, after=1, wait=0.8)
    await kitchen.mirror("m1.example")

    answer = await asyncio.wait_for(reader, 5)

    assert 0.8 <= time.monotonic() - began
    assert ([], 1, 1) == (answer["changes"], answer["next"], answer["head"])


async def test_nothing_to_wait_for(kitchen: Kitchen) -> None:
    """
    Who is behind is answered at once, however long it would wait.
    """
    await kitchen.keep(b"leek")

    async with asyncio.timeout(5):
        for query in ({"after": 0}, {"after": 7}, {"after": 1, "epoch": "another"}):
            assert [(1, LEEK, "present")] == brief(await changes(kitchen, wait=25, **query))


async def test_a_cursor_above_head_that_waits(kitchen: Kitchen) -> None:
    """
    A cursor above head counts as 0 for as long as it waits: head reaching it does not make it a place in
    this history.
    """
    reader = await waiting(kitchen, after=1, wait=3)
    await kitchen.keep(b"leek")

    assert [(1, LEEK, "present")] == brief(await asyncio.wait_for(reader, 5))


async def test_a_change_at_another_core(cook: Cook) -> None:
    """
    Who waits at one core hears within a second or so of what happens at another.
    """
    here, there = await cook(), await cook()
    reader = await waiting(here, wait=25)
    await there.keep(b"leek")

    assert [(1, LEEK, "present")] == brief(await asyncio.wait_for(reader, 3))


async def test_too_old(cook: Cook, clocks: Time) -> None:
    """
    A deleted blob is told of for `feed.keep_days`. Then it is forgotten, and cursors from before it was
    deleted get 410: their owner would never hear of it.
    """
    kitchen = await cook(feed={"keep_days": 2})
    for data in (b"leek", b"kale", b"chard"):
        await kitchen.keep(data)
    await kitchen.admin.delete(f"/api/blob/{LEEK}")
    await kitchen.admin.patch(f"/api/blob/{KALE}", json={"blocked": True})
    assert 0 == await forget(kitchen, clocks, 1.99)
    whole = [(3, CHARD, "present"), (4, LEEK, "gone"), (5, KALE, "blocked")]
    assert whole == brief(await changes(kitchen))

    assert 1 == await forget(kitchen, clocks, 0.02)

    for query in ({}, {"after": 3}, {"after": 3, "wait": 25}, {"after": 6}, {"after": 5, "epoch": "another"}):
        answer = await ask(kitchen, **query)
        assert 410 == answer.status_code, query
        assert answer.json()["type"].endswith("cursor-too-old")
    assert [(5, KALE, "blocked")] == brief(await changes(kitchen, after=4))
    assert [] == (await changes(kitchen, after=5))["changes"]
    assert 0 == await forget(kitchen, clocks, 1000)


async def test_forgotten_and_back(kitchen: Kitchen, clocks: Time) -> None:
    """
    What was forgotten and is uploaded again is new, with a new number; a number is never used twice.
    """
    await kitchen.keep(b"leek")
    await kitchen.admin.delete(f"/api/blob/{LEEK}")
    assert 1 == await forget(kitchen, clocks, 31)
    assert 404 == (await kitchen.anyone.get(f"/{LEEK}")).status_code

    assert 201 == (await kitchen.admin.put(f"/api/blob/{LEEK}", content=b"leek")).status_code

    assert [(3, LEEK, "present")] == brief(await changes(kitchen, after=2))
    assert 200 == (await kitchen.anyone.get(f"/{LEEK}")).status_code


async def test_deleted_back_and_deleted(kitchen: Kitchen, clocks: Time) -> None:
    """
    The days count from the last deletion, and a blob that came back is not forgotten at all.
    """
    for data in (b"leek", b"kale"):
        await kitchen.keep(data)
        await kitchen.admin.delete(f"/api/blob/{Digest.of(data)}")
        clocks.forward(20 * DAY)
        await kitchen.keep(data)
    await kitchen.admin.delete(f"/api/blob/{LEEK}")

    assert 0 == await forget(kitchen, clocks, 29)

    assert [(6, KALE, "present"), (7, LEEK, "gone")] == brief(await changes(kitchen))
    assert 1 == await forget(kitchen, clocks, 2)
    assert 410 == (await ask(kitchen, after=6)).status_code


async def test_bytes_go_first(kitchen: Kitchen, blobs: Blobs, clocks: Time) -> None:
    """
    A row whose bytes are still in the store is not forgotten: nobody would ever remove them.
    """
    await kitchen.keep(b"leek")
    await kitchen.admin.delete(f"/api/blob/{LEEK}")
    clocks.forward(31 * DAY)

    assert 0 == await blobs.trim(await lease(kitchen))

    assert [(2, LEEK, "gone")] == brief(await changes(kitchen))


async def test_from_the_list_on(kitchen: Kitchen, clocks: Time) -> None:
    """
    Who has been told 410 reads the list and follows on from the `head` of its first page: together they come
    to what is there, also when things change while it pages.
    """
    digests = {await kitchen.keep(b"%d" % number) for number in range(9)}
    first, *_, last = sorted(digests)
    await kitchen.admin.delete(f"/api/blob/{await kitchen.keep(b'forgotten')}")
    assert 1 == await forget(kitchen, clocks, 31)
    assert 410 == (await ask(kitchen)).status_code

    page = (await kitchen.admin.get("/api/blob:list?limit=4")).json()
    head, epoch = page["head"], page["epoch"]
    here = {one["digest"] for one in page["blobs"]}
    for digest in (first, last):
        await kitchen.admin.delete(f"/api/blob/{digest}")
    added = {await kitchen.keep(b"new %d" % number) for number in range(20)}
    while page["next"]:
        page = (await kitchen.admin.get(f"/api/blob:list?limit=4&after={page['next']}")).json()
        here |= {one["digest"] for one in page["blobs"]}
    for _, digest, state in brief(await changes(kitchen, after=head, epoch=epoch)):
        here = here | {digest} if state == "present" else here - {digest}

    assert (digests - {first, last}) | added == here
