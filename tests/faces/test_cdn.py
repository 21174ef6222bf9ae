"""Mirrors as an administrator sees and changes them."""

from typing import Any

import pytest

from tests.conftest import Cook, Kitchen, Time, bearer
from tests.databases import KIND
from tests.mirrors.test_model import BAD, GOOD

ABSURD = ["0", "-1", "99", str(2**63 - 1), str(2**63), str(2**70), "9" * 300, "abc", "1.5", "1e0", "%00"]


async def created(kitchen: Kitchen, /, **fields: Any) -> tuple[int, dict[str, Any]]:
    answer = await kitchen.admin.post("/api/cdn", json=fields)
    return answer.status_code, answer.json()


async def changed(kitchen: Kitchen, id: int, /, **fields: Any) -> tuple[int, dict[str, Any]]:
    answer = await kitchen.admin.patch(f"/api/cdn/{id}", json=fields)
    return answer.status_code, answer.json()


async def where(kitchen: Kitchen, digest: str) -> str | None:
    return (await kitchen.anyone.get(f"/{digest}")).headers.get("location")


@pytest.mark.row("S36")
async def test_a_new_mirror(kitchen: Kitchen) -> None:
    """
    A mirror is created with an id, a token and what was not said as it usually is.
    """
    answer = await kitchen.admin.post("/api/cdn", json={"fqdn": "A.example"})
    mirror = answer.json()

    assert 201 == answer.status_code
    assert f"/api/cdn/{mirror['id']}" == answer.headers["location"]
    assert mirror.pop("token").startswith("soup_")
    expected = {
        "id": 1, "fqdn": "a.example", "scheme": "https", "port": 443, "url": "https://a.example", "status": 0,
        "last_seen": None, "online": False, "why": "it has never reported", "mode": "full", "weight": 1,
        "trusted": True, "drained": False, "doubt": None, "created_at": "2026-01-01T12:00:00.000Z",
    }  # fmt: skip
    assert expected == {key: mirror[key] for key in expected}


@pytest.mark.row("S36")
async def test_the_life_of_a_mirror(kitchen: Kitchen) -> None:
    """
    It is created, shown, changed and deleted; then it is nowhere, and its reports are of nobody.
    """
    mirror = await kitchen.mirror("a.example")
    path = f"/api/cdn/{mirror['id']}"
    one = await kitchen.admin.get(path)
    assert (200, "a.example") == (one.status_code, one.json()["fqdn"])
    assert one.json() == {**(await kitchen.listed())["a.example"], "days": []}
    assert "token" not in one.json()
    code, now = await changed(kitchen, mirror["id"], fqdn="b.example", weight=5)
    assert (200, "b.example", 5) == (code, now["fqdn"], now["weight"])

    gone = await kitchen.admin.delete(path)

    assert (204, b"") == (gone.status_code, gone.content)
    assert {} == await kitchen.listed()
    own = bearer(mirror["token"])
    assert 404 == (await kitchen.admin.get(path)).status_code
    assert 404 == (await kitchen.admin.delete(path)).status_code
    assert 404 == (await kitchen.admin.post(f"{path}/token")).status_code
    assert 404 == (await kitchen.admin.patch(path, json={"weight": 2})).status_code
    assert 404 == (await kitchen.admin.patch(f"{path}?status=1")).status_code
    assert 404 == (await kitchen.anyone.patch(f"{path}?status=1", headers=own)).status_code
    assert 404 == (await kitchen.anyone.patch(path, headers=own)).status_code


@pytest.mark.row("S36")
async def test_ids_are_never_used_again(kitchen: Kitchen) -> None:
    """
    The id of a deleted mirror is no other's: its old agent must not speak for the next.
    """
    ids = []
    for _ in range(3):
        mirror = await kitchen.mirror("a.example")
        ids.append(mirror["id"])
        await kitchen.admin.delete(f"/api/cdn/{mirror['id']}")

    assert [1, 2, 3] == ids


@pytest.mark.row("S36")
async def test_a_deleted_mirror_gets_no_traffic(kitchen: Kitchen) -> None:
    """
    The moment its deletion is answered, a mirror is out of the pool.
    """
    digest = await kitchen.keep(b"leek")
    mirror = await kitchen.mirror("a.example")
    before = await where(kitchen, digest)
    await kitchen.admin.delete(f"/api/cdn/{mirror['id']}")

    assert [f"https://a.example/{digest}", None] == [before, await where(kitchen, digest)]


@pytest.mark.parametrize("method", ["GET", "PATCH", "DELETE"])
async def test_an_absurd_id(kitchen: Kitchen, method: str) -> None:
    """
    An id that is no mirror's is not found, however absurd.
    """
    answers = {id: await kitchen.admin.request(method, f"/api/cdn/{id}") for id in ABSURD}

    assert dict.fromkeys(ABSURD, 404) == {id: answer.status_code for id, answer in answers.items()}
    assert {"application/problem+json"} == {answer.headers["content-type"] for answer in answers.values()}


async def test_good_names(kitchen: Kitchen) -> None:
    """
    The names a mirror may have are shown, and redirected to, as they stand in a URL.
    """
    digest = await kitchen.keep(b"leek")
    for text, expected in GOOD.items():
        mirror = await kitchen.mirror(text)
        assert [expected] == list(await kitchen.listed())
        assert f"https://{expected}/{digest}" == await where(kitchen, digest)
        await kitchen.admin.delete(f"/api/cdn/{mirror['id']}")


async def test_bad_names(kitchen: Kitchen) -> None:
    """
    A name that is none is refused with a clear word, when a mirror is created and when it is changed.
    """
    mirror = await kitchen.mirror("a.example")
    before = await kitchen.listed()
    for text in BAD:
        code, answer = await created(kitchen, fqdn=text)
        assert (400, "Bad mirror") == (code, answer["title"])
        code, answer = await changed(kitchen, mirror["id"], fqdn=text)
        assert (400, "Bad mirror") == (code, answer["title"])

    assert before == await kitchen.listed()


FAULTS: list[dict[str, Any]] = [
    {"fqdn": None}, {"fqdn": 1}, {"fqdn": ["a.example"]},
    {"scheme": "ftp"}, {"scheme": "HTTPS"}, {"scheme": ""},
    {"port": 0}, {"port": -1}, {"port": 65_536}, {"port": 1.5},
    {"mode": "half"}, {"weight": 0}, {"weight": 1001}, {"weight": None},
    {"trusted": "yes"}, {"drained": None}, {"soup": "leek"}, {"id": 7}, {"doubt_reason": "x"},
]  # fmt: skip


async def test_bad_terms(kitchen: Kitchen) -> None:
    """
    Unknown fields and values out of range are refused, and nothing is changed.
    """
    mirror = await kitchen.mirror("a.example")
    before = await kitchen.listed()

    for fault in FAULTS:
        assert 400 == (await created(kitchen, **{"fqdn": "b.example", **fault}))[0], fault
        assert 400 == (await changed(kitchen, mirror["id"], **fault))[0], fault
    assert before == await kitchen.listed()


async def test_a_body_that_is_no_mirror(kitchen: Kitchen) -> None:
    """
    What is no JSON object with a name creates nothing.
    """
    kind = {"content-type": "application/json"}
    for content in (b"", b"{", b"[]", b"null", b'"a.example"', b"{}", b"\xff", b'{"fqdn": "\\ud800"}'):
        answer = await kitchen.admin.post("/api/cdn", content=content, headers=kind)
        assert 400 == answer.status_code, content

    assert {} == await kitchen.listed()


async def test_an_address_that_is_taken(kitchen: Kitchen) -> None:
    """
    Two mirrors are never at one address; another port is another address.
    """
    await kitchen.mirror("a.example")
    other = await kitchen.mirror("a.example", port=8443)

    assert 409 == (await created(kitchen, fqdn="A.EXAMPLE"))[0]
    assert 409 == (await changed(kitchen, other["id"], port=443))[0]
    assert 200 == (await changed(kitchen, other["id"], port=8443))[0]


@pytest.mark.row("S8")
async def test_scheme_and_port(kitchen: Kitchen) -> None:
    """
    The link is `https://$fqdn/$hash`; another scheme or port is written where it is not the usual (C7).
    """
    digest = await kitchen.keep(b"leek")
    mirror = await kitchen.mirror("a.example")
    links = [await where(kitchen, digest)]
    for terms in ({"port": 8443}, {"scheme": "http"}, {"port": None}, {"scheme": "https"}, {"port": 80}):
        assert 200 == (await changed(kitchen, mirror["id"], **terms))[0]
        links.append(await where(kitchen, digest))

    places = ["https://a.example", "https://a.example:8443", "http://a.example:8443", "http://a.example"]
    places += ["https://a.example", "https://a.example:80"]
    assert [f"{place}/{digest}" for place in places] == links


async def test_weight_and_drain(kitchen: Kitchen) -> None:
    """
    A drained mirror gets no more requests and keeps reporting; undrained it is back at once.
    """
    digest = await kitchen.keep(b"leek")
    mirror = await kitchen.mirror("a.example")

    await changed(kitchen, mirror["id"], drained=True)
    assert await where(kitchen, digest) is None
    seen = (await kitchen.listed())["a.example"]
    assert (True, "an administrator has drained it") == (seen["online"], seen["why"])
    await changed(kitchen, mirror["id"], drained=False)
    assert await where(kitchen, digest) is not None


async def test_an_administrator_reports(kitchen: Kitchen) -> None:
    """
    With a status an administrator's PATCH is a report; a report and a change in one are refused.
    """
    mirror = await kitchen.mirror("a.example", status=None)

    assert (200, {"epoch", "head", "interval", "now"}) == (
        (reported := await changed(kitchen, mirror["id"], status=2))[0],
        set(reported[1]),
    )
    assert 400 == (await changed(kitchen, mirror["id"], status=1, weight=2))[0]
    seen = (await kitchen.listed())["a.example"]
    assert (2, 1) == (seen["status"], seen["weight"])


async def test_an_administrator_changes_nothing(kitchen: Kitchen) -> None:
    """
    An administrator's PATCH without a field is no heartbeat: it is the mirror that must be alive.
    """
    mirror = await kitchen.mirror("a.example", status=None)
    code, seen = await changed(kitchen, mirror["id"])

    assert (200, None) == (code, seen["last_seen"])


async def test_a_mirror_cannot_change_itself(kitchen: Kitchen) -> None:
    """
    Terms in a mirror's report are fields of a report soup does not know.
    """
    mirror = await kitchen.mirror("a.example")
    await kitchen.report(mirror, status=1, weight=1000, fqdn="evil.example", drained=False)

    assert 1 == (await kitchen.listed())["a.example"]["weight"]


LISTS = ["/api/cdn:list", "/api/cdn%3Alist", "/api/cdn:list/", "/api/cdn", "/api/cdn/"]


@pytest.mark.row("S10")
async def test_the_list(kitchen: Kitchen) -> None:
    """
    The list is an array of all mirrors in order of id, by each of its paths (C8).
    """
    await kitchen.mirror("b.example", status=2)
    await kitchen.mirror("a.example", status=None)
    answers = [await kitchen.admin.get(path) for path in LISTS]

    assert {(200, "application/json")} == {(a.status_code, a.headers["content-type"]) for a in answers}
    assert 1 == len({answer.text for answer in answers})
    one, two = answers[0].json()
    assert (1, "b.example", 2, True) == (one["id"], one["fqdn"], one["status"], one["online"])
    assert one["last_seen"].endswith("Z")
    assert (2, "a.example", 0, None, False) == (
        two["id"], two["fqdn"], two["status"], two["last_seen"], two["online"]
    )  # fmt: skip


@pytest.mark.row("S10")
async def test_an_empty_list(kitchen: Kitchen) -> None:
    """
    Without mirrors it is an empty array.
    """
    assert [] == (await kitchen.admin.get("/api/cdn:list")).json()


async def test_a_public_list(cook: Cook) -> None:
    """
    With `cdn.public_list` everybody sees names and statuses, and no more (C24).
    """
    kitchen = await cook(cdn={"public_list": True})
    await kitchen.mirror("a.example", status=2)

    for path in LISTS:
        answer = await kitchen.anyone.get(path)
        assert [{"fqdn": "a.example", "status": 2}] == answer.json()
    assert "id" in (await kitchen.admin.get("/api/cdn:list")).json()[0]
    assert 401 == (await kitchen.anyone.get("/api/cdn:list", headers=bearer("soup_x"))).status_code
    assert 401 == (await kitchen.anyone.get("/api/cdn/1")).status_code


async def test_why(kitchen: Kitchen, clocks: Time) -> None:
    """
    The list says of each mirror that would not be chosen why not, and nothing of the others.
    """
    await kitchen.mirror("silent.example")
    clocks.forward(45)
    await kitchen.mirror("good.example")
    await kitchen.mirror("new.example", status=None)
    await kitchen.mirror("off.example", status=0)
    await kitchen.mirror("error.example", status=3)
    await kitchen.mirror("drained.example", drained=True)
    await kitchen.report(await kitchen.mirror("leaving.example"), status=1, leaving=True)
    await kitchen.report(await kitchen.mirror("behind.example"), status=1, synced_to=5, epoch="another")
    await kitchen.mirror("doubted.example")
    doubt = "update mirror set doubt_reason = 'wrong bytes', doubt_since = created_at "
    doubt += "where id = (select max(id) from mirror)"
    KIND.ask(kitchen.settings.data, doubt)

    listed = await kitchen.listed()
    silent = listed.pop("silent.example")["why"]
    assert silent.startswith("silent for 45 s")
    assert {
        "good.example": None,
        "new.example": "it has never reported",
        "off.example": "it says it is offline",
        "error.example": "it reports an error, and others do not",
        "drained.example": "an administrator has drained it",
        "leaving.example": "it says it is leaving",
        "behind.example": "it has nothing of this history of the feed yet",
        "doubted.example": "it is doubted: wrong bytes",
    } == {fqdn: mirror["why"] for fqdn, mirror in listed.items()}


async def test_why_never(cook: Cook) -> None:
    """
    Where errors are never chosen, the list says so.
    """
    kitchen = await cook(cdn={"error_mirrors": "never"})
    digest = await kitchen.keep(b"leek")
    await kitchen.mirror("error.example", status=3)

    assert "it reports an error" == (await kitchen.listed())["error.example"]["why"]
    assert await where(kitchen, digest) is None
