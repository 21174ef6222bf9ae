"""Mirrors that ask for another one, and mirrors that a redirect names beside the first (D8, D9)."""

from typing import Any

import httpx
import pytest

from tests.conftest import Cook, Kitchen, bearer

LEEK = b"leek" * 1000


@pytest.fixture
async def fleet(kitchen: Kitchen) -> dict[str, dict[str, Any]]:
    """Two full mirrors and a pulling one, by the names of their hosts."""
    modes = {"a": "full", "b": "full", "pulls": "pull"}
    return {name: await kitchen.mirror(f"{name}.example", mode=mode) for name, mode in modes.items()}


async def places(kitchen: Kitchen, url: str, token: str) -> set[str]:
    """Where ten requests with this token are sent; "here" where they are answered."""
    answers = [await kitchen.anyone.get(url, headers=bearer(token)) for _ in range(10)]
    assert {answer.status_code for answer in answers} <= {200, 307}
    return {httpx.URL(answer.headers.get("location", "https://here")).host for answer in answers}


async def test_a_mirror_that_asks_for_another(kitchen: Kitchen, fleet: dict[str, dict[str, Any]]) -> None:
    """
    A full mirror that says so is sent to another full one, never to itself or to one that pulls (D8).
    """
    url = f"/{await kitchen.keep(LEEK)}?from=mirrors"

    assert {"b.example"} == await places(kitchen, url, fleet["a"]["token"])
    assert {"a.example"} == await places(kitchen, url, fleet["b"]["token"])
    assert {"here"} == await places(kitchen, url, fleet["pulls"]["token"])
    assert {"here"} == await places(kitchen, f"{url}&direct=1", fleet["a"]["token"])
    assert {"here"} == await places(kitchen, url.partition("?")[0], fleet["a"]["token"])


@pytest.mark.parametrize("how", ["offline", "leaving", "behind", "lacking", "drained", "untrusted", "gone"])
async def test_no_other_mirror_has_it(kitchen: Kitchen, fleet: dict[str, dict[str, Any]], how: str) -> None:
    """
    A mirror that asks for another gets the bytes when none may be chosen.
    """
    digest, other = await kitchen.keep(LEEK), fleet["b"]
    match how:
        case "offline":
            await kitchen.report(other, status=0)
        case "leaving":
            await kitchen.report(other, status=1, leaving=True)
        case "behind":
            epoch = (await kitchen.admin.get("/api/blob:list")).json()["epoch"]
            await kitchen.report(other, status=1, epoch=epoch, synced_to=0)
        case "lacking":
            await kitchen.report(other, status=1, lacking=[digest])
        case "gone":
            await kitchen.admin.delete(f"/api/cdn/{other['id']}")
        case _:
            terms = {"drained": True} if how == "drained" else {"trusted": False}
            await kitchen.admin.patch(f"/api/cdn/{other['id']}", json=terms)

    assert {"here"} == await places(kitchen, f"/{digest}?from=mirrors", fleet["a"]["token"])


@pytest.mark.parametrize("word", ["", "Mirrors", "elsewhere"])
async def test_where_else(kitchen: Kitchen, fleet: dict[str, dict[str, Any]], word: str) -> None:
    """
    A mirror that misspells it is told so; to anybody else the word means nothing (C13).
    """
    url = f"/{await kitchen.keep(LEEK)}?from={word}"

    told = await kitchen.anyone.get(url, headers=bearer(fleet["a"]["token"]))
    others = [await kitchen.anyone.get(url), await kitchen.admin.get(url)]

    assert (400, "urn:soup:error:invalid") == (told.status_code, told.json()["type"])
    assert [307, 307] == [answer.status_code for answer in others]


async def test_damage_is_not_sent_in_circles(kitchen: Kitchen, fleet: dict[str, dict[str, Any]]) -> None:
    """
    A mirror that asks for what soup has lost is sent to a full one that has it; not back to itself.
    """
    digest = await kitchen.keep(LEEK)
    kitchen.file(digest).unlink()

    assert {"b.example"} == await places(kitchen, f"/{digest}", fleet["a"]["token"])
    assert {"a.example", "b.example"} == await places(kitchen, f"/{digest}", fleet["pulls"]["token"])
    await kitchen.report(fleet["b"], status=0)
    alone = await kitchen.anyone.get(f"/{digest}", headers=bearer(fleet["a"]["token"]))
    assert 503 == alone.status_code


def linked(answer: httpx.Response) -> list[str]:
    """The hosts a redirect names: first where it leads, then the others in their order."""
    assert 307 == answer.status_code
    found = [answer.headers["location"]]
    for place, one in enumerate(
        answer.headers.get("link", "").split(", ")[: None if "link" in answer.headers else 0], 1
    ):
        url, _, rest = one.partition(">")
        assert f"; rel=duplicate; pri={place}" == rest
        found.append(url.removeprefix("<"))
    assert {httpx.URL(url).path for url in found} == {httpx.URL(found[0]).path}
    return [httpx.URL(url).host for url in found]


@pytest.mark.parametrize(("alternates", "named"), [(0, 1), (1, 2), (2, 3), (8, 4)])
async def test_other_mirrors_that_have_it(cook: Cook, alternates: int, named: int) -> None:
    """
    A redirect names others that have the blob, in the form of RFC 6249; each is as good as the first.
    """
    kitchen = await cook(cdn={"alternates": alternates})
    digest = await kitchen.keep(LEEK)
    for name in "abcd":
        await kitchen.mirror(f"{name}.example")
    await kitchen.mirror("offline.example", 0)
    await kitchen.mirror("drained.example", drained=True)
    await kitchen.report(await kitchen.mirror("lacking.example"), status=1, lacking=[digest])

    found = [linked(await kitchen.anyone.get(f"/{digest}")) for _ in range(100)]

    assert {named} == {len(set(hosts)) for hosts in found} == {len(hosts) for hosts in found}
    for place in range(named):
        assert {f"{name}.example" for name in "abcd"} == {hosts[place] for hosts in found}


async def test_no_other_mirror(kitchen: Kitchen) -> None:
    """
    With a single mirror there is nobody else to name, and no header that names nobody.
    """
    digest = await kitchen.keep(LEEK)
    await kitchen.mirror("m.example")

    answer = await kitchen.anyone.get(f"/{digest}")

    assert 307 == answer.status_code
    assert "link" not in answer.headers


async def test_others_for_credentials(kitchen: Kitchen, fleet: dict[str, dict[str, Any]]) -> None:
    """
    Who shows credentials, or is a mirror, is told of those only that it might have been sent to.
    """
    url = f"/{await kitchen.keep(LEEK)}"
    await kitchen.admin.patch(f"/api/cdn/{fleet['b']['id']}", json={"trusted": False})

    shown = [linked(await kitchen.anyone.get(url, headers={"Cookie": "x"})) for _ in range(20)]
    mirror = bearer(fleet["b"]["token"])
    asked = [linked(await kitchen.anyone.get(f"{url}?from=mirrors", headers=mirror)) for _ in range(20)]

    assert {("a.example", "pulls.example"), ("pulls.example", "a.example")} == set(map(tuple, shown))
    assert {("a.example",)} == set(map(tuple, asked))


async def test_settings_of_redirects_change_in_place(cook: Cook) -> None:
    """
    How many others are named, and how many mirrors are served at once, changes from the next request on.
    """
    kitchen = await cook()
    digest = await kitchen.keep(LEEK)
    mirror, *_ = [await kitchen.mirror(f"{name}.example") for name in "abc"]
    assert 3 == len(linked(await kitchen.anyone.get(f"/{digest}")))

    cdn = kitchen.settings.cdn.model_copy(update={"alternates": 1, "sync_slots": 1})
    kitchen.soup.adopt(kitchen.settings.model_copy(update={"cdn": cdn}))

    assert 2 == len(linked(await kitchen.anyone.get(f"/{digest}")))
    with kitchen.soup.face.sync.place(1):
        assert 503 == (await kitchen.anyone.get(f"/{digest}", headers=bearer(mirror["token"]))).status_code
