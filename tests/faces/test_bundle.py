"""/api/blob:bundle: what is in it, in which order, and who gets it."""

import asyncio
import io
import os
import tarfile
from pathlib import Path
from typing import Any

import httpx
import pytest

from soup.blobs import bundle
from soup.core.digest import Digest
from tests.conftest import Cook, Kitchen, Time, bearer, sha256
from tests.databases import KIND
from tests.test_metrics import sample

PEAS, LEEK, SALT = b"peas", b"leek" * 1000, b""
BROTH = os.urandom(bundle.LOT + 1)
URL = "/api/blob:bundle"


def unpacked(answer: httpx.Response) -> dict[str, bytes]:
    """The members of a bundle, in their order."""
    assert 200 == answer.status_code, answer.text
    assert "application/x-tar" == answer.headers["content-type"]
    assert answer.content.endswith(bytes(1024))
    with tarfile.open(fileobj=io.BytesIO(answer.content)) as opened:
        return {member.name: opened.extractfile(member).read() for member in opened}  # type: ignore[union-attr]


def members(*blobs: bytes) -> dict[str, bytes]:
    return {f"{sha256(data)[:3]}/{sha256(data)}": data for data in blobs}


def same(expected: dict[str, bytes], answer: httpx.Response) -> bool:
    """Whether it is these, in this order."""
    return list(expected.items()) == list(unpacked(answer).items())


async def head(kitchen: Kitchen) -> int:
    return int((await kitchen.admin.get("/api/blob:list")).json()["head"])


async def test_everything(kitchen: Kitchen) -> None:
    """
    Without a word more it is all that is present, in the order of its changes; not what is blocked or gone.
    """
    for data in (PEAS, BROTH, LEEK, b"turnip", SALT, b"rice"):
        await kitchen.keep(data)
    await kitchen.admin.patch(f"/api/blob/{sha256(PEAS)}", json={"blocked": True})
    await kitchen.admin.delete(f"/api/blob/{sha256(b'turnip')}")
    await kitchen.admin.patch(f"/api/blob/{sha256(BROTH)}", json={"blocked": True})
    await kitchen.admin.patch(f"/api/blob/{sha256(BROTH)}", json={"blocked": False})

    answer = await kitchen.admin.get(URL)

    assert same(members(LEEK, SALT, b"rice", BROTH), answer)
    listed = (await kitchen.admin.get("/api/blob:list")).json()
    assert listed["epoch"] == answer.headers["soup-epoch"]
    assert [str(listed["head"])] * 2 == [answer.headers["soup-next"], answer.headers["soup-head"]]


async def test_nothing(kitchen: Kitchen) -> None:
    """
    A bundle of nothing is an archive all the same.
    """
    for answer in [await kitchen.admin.get(URL), await kitchen.admin.post(URL, json={"digests": []})]:
        assert bytes(1024) == answer.content
        assert {} == unpacked(answer)


async def test_a_bundle_is_as_old_as_its_blobs(kitchen: Kitchen, clocks: Time) -> None:
    """
    A member is dated by when its blob was created, as mirrors date their files.
    """
    moments = []
    for data in (PEAS, LEEK):
        clocks.forward(100.7)
        moments.append(int(clocks.now.timestamp()))
        await kitchen.keep(data)

    answer = await kitchen.admin.get(URL)

    with tarfile.open(fileobj=io.BytesIO(answer.content)) as opened:
        assert moments == [member.mtime for member in opened]


@pytest.mark.parametrize("rows", [1, 3, 500])
async def test_in_pieces(kitchen: Kitchen, monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    """
    Bundles of so many changes each are together what one is, however many rows are read at once.
    """
    monkeypatch.setattr(bundle, "ROWS", rows)
    monkeypatch.setattr(bundle, "LOT", 2)
    for place in range(7):
        await kitchen.keep(bytes([place]) * place)
    await kitchen.admin.delete(f"/api/blob/{sha256(bytes([3]) * 3)}")
    whole = unpacked(await kitchen.admin.get(URL))
    found: dict[str, bytes] = {}
    after, sizes = 0, []
    while after < await head(kitchen):
        answer = await kitchen.admin.get(URL, params={"after": after, "limit": 2})
        changes = await kitchen.admin.get("/api/blob:changes", params={"after": after, "limit": 2})
        found |= unpacked(answer)
        sizes.append(len(unpacked(answer)))
        after = int(answer.headers["soup-next"])
        assert changes.json()["next"] == after

    assert 6 == len(whole)
    assert list(whole.items()) == list(found.items())
    assert [2, 2, 2, 0] == sizes
    assert same({}, await kitchen.admin.get(URL, params={"after": after}))


async def test_the_next_bundle(kitchen: Kitchen) -> None:
    """
    From behind a cursor it is what came later; a cursor of another history, or one ahead, is none.
    """
    await kitchen.keep(PEAS)
    answer = await kitchen.admin.get(URL)
    cursor = {"after": answer.headers["soup-next"], "epoch": answer.headers["soup-epoch"]}
    await kitchen.keep(LEEK)

    assert same(members(LEEK), await kitchen.admin.get(URL, params=cursor))
    for other in ({**cursor, "epoch": "another"}, {**cursor, "after": "99"}):
        assert same(members(PEAS, LEEK), await kitchen.admin.get(URL, params=other))


async def test_a_cursor_that_is_too_old(kitchen: Kitchen) -> None:
    """
    Below what is forgotten there is no following on; beginning with nothing there is nothing to forget.
    """
    for data in (PEAS, LEEK, b"rice"):
        await kitchen.keep(data)
    KIND.ask(kitchen.settings.data, "update feed set floor = 2")

    refused = await kitchen.admin.get(URL, params={"after": 1})

    assert (410, "urn:soup:error:cursor-too-old") == (refused.status_code, refused.json()["type"])
    assert same(members(b"rice"), await kitchen.admin.get(URL, params={"after": 2}))
    assert same(members(PEAS, LEEK, b"rice"), await kitchen.admin.get(URL))


@pytest.mark.parametrize(
    ("largest", "expected"), [(3, [SALT]), (4, [PEAS, SALT]), (4000, [PEAS, LEEK, SALT])]
)
async def test_the_largest(kitchen: Kitchen, largest: int, expected: list[bytes]) -> None:
    """
    Larger ones are left out, and the cursor passes over them.
    """
    for data in (PEAS, LEEK, BROTH, SALT):
        await kitchen.keep(data)

    answer = await kitchen.admin.get(URL, params={"largest": largest})

    assert same(members(*expected), answer)
    assert "4" == answer.headers["soup-next"]


async def test_those_that_are_asked_for(kitchen: Kitchen) -> None:
    """
    Exactly those that are present, once each, in the order they were asked.
    """
    for data in (PEAS, BROTH, LEEK, b"turnip", SALT):
        await kitchen.keep(data)
    await kitchen.admin.patch(f"/api/blob/{sha256(b'turnip')}", json={"blocked": True})
    asked = [sha256(data) for data in (SALT, LEEK, b"turnip", b"nobody has it", BROTH, LEEK, PEAS)]

    answer = await kitchen.admin.post(URL, json={"digests": asked})

    assert same(members(SALT, LEEK, BROTH, PEAS), answer)


async def test_more_than_are_read_at_once(kitchen: Kitchen, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    The order is that of the question, over all rows that are read.
    """
    monkeypatch.setattr(bundle, "ROWS", 3)
    blobs = [bytes([place]) for place in range(10)]
    for data in blobs:
        await kitchen.keep(data)

    answer = await kitchen.admin.post(URL, json={"digests": [sha256(data) for data in reversed(blobs)]})

    assert same(members(*reversed(blobs)), answer)


@pytest.mark.parametrize(
    ("how", "query", "body", "status"),
    [
        ("GET", "after=-1", None, 400),
        ("GET", "after=leek", None, 400),
        ("GET", "limit=0", None, 400),
        ("GET", "limit=10001", None, 400),
        ("GET", "largest=-1", None, 400),
        ("POST", "", {"digests": ["leek"]}, 400),
        ("POST", "", {"digests": ["0" * 64] * 10_001}, 400),
        ("POST", "", {"digest": []}, 400),
        ("DELETE", "", None, 405),
    ],
)
async def test_what_cannot_be_right(kitchen: Kitchen, how: str, query: str, body: Any, status: int) -> None:
    """
    A question that makes no sense is refused before anything is sent.
    """
    answer = await kitchen.admin.request(how, f"{URL}?{query}", json=body)

    assert (status, status) == (answer.status_code, answer.json()["status"])


@pytest.mark.parametrize(
    ("kind", "status"), [("admin", 200), ("read", 200), ("mirror", 200), ("write", 403), (None, 401)]
)
async def test_who_may(kitchen: Kitchen, kind: str | None, status: int) -> None:
    """
    Who may look at what there is, and a mirror.
    """
    mirror = await kitchen.mirror("m.example")
    tokens = {
        "mirror": mirror["token"],
        "admin": kitchen.admin.headers["authorization"].removeprefix("Bearer "),
    }
    if kind in {"read", "write"}:
        tokens[kind] = await kitchen.soup.access.new(kind, None, None)  # type: ignore[arg-type]
    headers = bearer(tokens[kind]) if kind else {}

    asked = await kitchen.anyone.get(URL, headers=headers)
    named = await kitchen.anyone.post(URL, headers=headers, json={"digests": []})

    assert [status, status] == [asked.status_code, named.status_code]


HARM = {
    "missing": Path.unlink,
    "short": lambda file: os.truncate(file, file.stat().st_size - 1),
    "other bytes": lambda file: file.write_bytes(b"x" * file.stat().st_size),
    "a folder": lambda file: (file.unlink(), file.mkdir()),
}


@pytest.mark.parametrize(("harm", "data"), [(harm, data) for harm in HARM for data in (LEEK, BROTH)])
async def test_what_the_store_has_damaged(kitchen: Kitchen, harm: str, data: bytes) -> None:
    """
    It is left out, told to the log, counted, and looked at: soon the database knows. The others come.
    """
    for blob in (PEAS, data, SALT):
        await kitchen.keep(blob)
    HARM[harm](kitchen.file(sha256(data)))
    before = sample("soup_blobs_missing_total")

    answers = [
        await kitchen.admin.get(URL),
        await kitchen.admin.post(URL, json={"digests": [sha256(blob) for blob in (PEAS, data, SALT)]}),
    ]

    unseen = harm == "other bytes" and data == BROTH
    names = list(members(PEAS, data, SALT) if unseen else members(PEAS, SALT))
    assert [names, names] == [list(unpacked(answer)) for answer in answers]
    assert before + (0 if unseen else 2) == sample("soup_blobs_missing_total")
    known = [] if unseen or harm == "a folder" else ["damaged"]
    for _ in range(200):
        if known in ([], await standing(kitchen, sha256(data))):
            return
        await asyncio.sleep(0.05)
    raise AssertionError("nobody has looked at it")


async def standing(kitchen: Kitchen, digest: str) -> list[str]:
    """What is known of its copies."""
    facts = (await kitchen.admin.get(f"/api/blob/{digest}")).json()
    return [placement["state"] for placement in facts["placements"]]


async def test_what_is_blocked_meanwhile(kitchen: Kitchen, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    What is blocked while a bundle is under way is not sent any more, whatever was read before.
    """
    for place in range(4):
        await kitchen.keep(bytes([place]))
    monkeypatch.setattr(bundle, "FRESH", 0.0)
    monkeypatch.setattr(bundle, "MANY", 1)
    soup = kitchen.soup
    bundles = bundle.Bundles(soup.database, soup.reading, soup.blobs._suspects)
    digests = [Digest.of(bytes([place])) for place in range(4)]

    for pieces in (bundles.following(await bundles.stretch(0, None, None), None), bundles.of(digests)):
        sent = [await anext(pieces)]
        await kitchen.admin.patch(f"/api/blob/{digests[2]}", json={"blocked": True})
        sent += [piece async for piece in pieces]
        await kitchen.admin.patch(f"/api/blob/{digests[2]}", json={"blocked": False})

        assert digests[2] not in b"".join(sent).decode()
        assert digests[1] in b"".join(sent).decode()


async def test_no_place(cook: Cook) -> None:
    """
    With every place taken mirrors are told to come back, each at another moment; nobody else notices.
    """
    kitchen = await cook(cdn={"sync_slots": 1})
    digest = await kitchen.keep(LEEK)
    mirror = bearer((await kitchen.mirror("m.example", None))["token"])
    before = sample("soup_refused_total", reason="sync")

    with kitchen.soup.face.sync.place(1):
        refused = [
            await kitchen.admin.get(URL),
            await kitchen.admin.post(URL, json={"digests": [digest]}),
            *[await kitchen.anyone.get(f"/{digest}", headers=mirror) for _ in range(20)],
        ]
        others = await kitchen.anyone.get(f"/{digest}")
    after = await kitchen.anyone.get(f"/{digest}", headers=mirror)

    assert {503} == {answer.status_code for answer in refused}
    later = {int(answer.headers["retry-after"]) for answer in refused}
    assert later <= {1, 2, 3, 4, 5}
    assert 1 < len(later)
    assert before + 22 == sample("soup_refused_total", reason="sync")
    assert [200, 200] == [others.status_code, after.status_code]
