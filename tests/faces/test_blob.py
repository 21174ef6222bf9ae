"""/api/blob: uploads, lists, facts, and what an administrator does with a blob."""

import hashlib

import pytest

from tests.conftest import Cook, Kitchen, Time, sha256

PEAS, LEEK, SALT = b"peas", b"leek", b""
UNKNOWN = "0" * 64


@pytest.mark.parametrize("method", ["POST", "PUT"])
async def test_an_upload_without_a_name(kitchen: Kitchen, method: str) -> None:
    """
    Soup says what the bytes are called: 201 the first time, 200 ever after.
    """
    answers = [await kitchen.admin.request(method, "/api/blob", content=LEEK) for _ in range(2)]

    assert [201, 200] == [answer.status_code for answer in answers]
    for answer in answers:
        assert f"/{sha256(LEEK)}" == answer.headers["location"]
        url = f"http://soup.example/{sha256(LEEK)}"
        assert {"digest": sha256(LEEK), "size": 4, "url": url} == answer.json()


@pytest.mark.parametrize("path", ["", "/api/blob"])
async def test_an_upload_under_its_name(kitchen: Kitchen, path: str) -> None:
    """
    The name is checked; wrong bytes are refused and leave no trace.
    """
    right = [await kitchen.admin.put(f"{path}/{sha256(LEEK)}", content=LEEK) for _ in range(2)]
    wrong = await kitchen.admin.put(f"{path}/{sha256(PEAS)}", content=LEEK)

    assert [201, 200, 422] == [answer.status_code for answer in [*right, wrong]]
    assert f"/{sha256(LEEK)}" == right[0].headers["location"]
    assert sha256(PEAS) == wrong.json()["digest"]
    assert 404 == (await kitchen.anyone.get(f"/{sha256(PEAS)}")).status_code


@pytest.mark.parametrize(
    ("header", "path", "status"),
    [
        ("*", f"/{sha256(LEEK)}", 412),
        (f'"{sha256(LEEK)}"', f"/{sha256(LEEK)}", 412),
        ('"peas"', f"/{sha256(LEEK)}", 200),
        ("*", f"/{sha256(PEAS)}", 201),
        ("*", "/api/blob", 412),
    ],
)
async def test_only_what_is_new(kitchen: Kitchen, header: str, path: str, status: int) -> None:
    """
    `If-None-Match` refuses an upload of what is here already.
    """
    await kitchen.keep(LEEK)
    body = PEAS if sha256(PEAS) in path else LEEK

    answer = await kitchen.admin.put(path, content=body, headers={"If-None-Match": header})

    assert status == answer.status_code


@pytest.mark.parametrize(
    ("header", "path", "status"),
    [
        ("*", f"/{sha256(LEEK)}", 200),
        (f'"peas", "{sha256(LEEK)}"', f"/{sha256(LEEK)}", 200),
        (f'W/"{sha256(LEEK)}"', f"/{sha256(LEEK)}", 412),
        ('"peas"', f"/{sha256(LEEK)}", 412),
        ('"peas"', f"/api/blob/{sha256(LEEK)}", 412),
        ("*", f"/{sha256(PEAS)}", 412),
        (f'"{sha256(PEAS)}"', f"/{sha256(PEAS)}", 412),
        ("*", "/api/blob", 412),
    ],
)
async def test_only_what_is_here(kitchen: Kitchen, header: str, path: str, status: int) -> None:
    """
    `If-Match` refuses an upload of what is not here, and one that has no name to look for (RFC 9110, 13.1.1).
    """
    await kitchen.keep(LEEK)
    body = LEEK if sha256(LEEK) in path else PEAS

    answer = await kitchen.admin.put(path, content=body, headers={"If-Match": header})

    assert status == answer.status_code
    assert 404 == (await kitchen.anyone.get(f"/{sha256(PEAS)}")).status_code


@pytest.mark.parametrize("gone", ["deleted", "blocked"])
async def test_only_what_is_still_here(kitchen: Kitchen, gone: str) -> None:
    """
    What was here once does not count, and what is blocked stays blocked.
    """
    digest = await kitchen.keep(LEEK)
    if gone == "deleted":
        await kitchen.admin.delete(f"/api/blob/{digest}")
    else:
        await kitchen.admin.patch(f"/api/blob/{digest}", json={"blocked": True})

    answer = await kitchen.admin.put(f"/{digest}", content=LEEK, headers={"If-Match": "*"})

    assert {"deleted": 412, "blocked": 410}[gone] == answer.status_code
    assert {"deleted": 404, "blocked": 410}[gone] == (await kitchen.anyone.get(f"/{digest}")).status_code


@pytest.mark.parametrize(
    ("header", "deleted", "blocked"), [('"peas"', 412, 412), ("*", 204, 200), (f'"{sha256(LEEK)}"', 204, 200)]
)
async def test_a_change_of_what_is_meant(kitchen: Kitchen, header: str, deleted: int, blocked: int) -> None:
    """
    `If-Match` with other content deletes and blocks nothing; of a blob that is not here there is no content.
    """
    digest, given = await kitchen.keep(LEEK), {"If-Match": header}
    path = f"/api/blob/{digest}"
    before = (await kitchen.admin.get(path)).json()

    block = await kitchen.admin.patch(path, json={"blocked": True}, headers=given)
    assert blocked == block.status_code
    assert (before == (await kitchen.admin.get(path)).json()) is (blocked == 412)
    await kitchen.admin.patch(path, json={"blocked": False})
    assert deleted == (await kitchen.admin.delete(path, headers=given)).status_code
    assert (404 if deleted == 204 else 200) == (await kitchen.admin.get(path)).status_code
    assert 404 == (await kitchen.admin.delete(f"/api/blob/{UNKNOWN}", headers=given)).status_code


async def test_the_url_of_a_blob(cook: Cook) -> None:
    """
    Links in answers start with `server.url`, where it is set.
    """
    kitchen = await cook(server={"url": "https://soup.example.org/"})

    answer = await kitchen.admin.post("/api/blob", content=LEEK)

    assert f"https://soup.example.org/{sha256(LEEK)}" == answer.json()["url"]


async def test_a_list_in_pages(kitchen: Kitchen) -> None:
    """
    Blobs come in the order of their digests, page by page, each once.
    """
    digests = sorted([await kitchen.keep(bytes([place])) for place in range(7)])
    pages, after = [], None
    while True:
        query = {"limit": 3} | ({"after": after} if after else {})
        page = (await kitchen.admin.get("/api/blob:list", params=query)).json()
        pages.append([blob["digest"] for blob in page["blobs"]])
        after = page["next"]
        if after is None:
            break

    assert [digests[:3], digests[3:6], digests[6:]] == pages


async def test_a_list_that_ends_with_a_page(kitchen: Kitchen) -> None:
    """
    A last page that is full is known to be the last.
    """
    for place in range(3):
        await kitchen.keep(bytes([place]))

    page = (await kitchen.admin.get("/api/blob:list?limit=3")).json()

    assert (3, None) == (len(page["blobs"]), page["next"])


async def test_the_list_by_its_other_spelling(kitchen: Kitchen) -> None:
    """
    A colon may be encoded.
    """
    digest = await kitchen.keep(LEEK)

    listed = (await kitchen.admin.get("/api/blob%3Alist")).json()

    assert [digest] == [blob["digest"] for blob in listed["blobs"]]


async def test_which_are_missing(kitchen: Kitchen) -> None:
    """
    Those of a list that are not here, in its order.
    """
    here, gone = await kitchen.keep(LEEK), await kitchen.keep(PEAS)
    await kitchen.admin.delete(f"/api/blob/{gone}")
    asked = [UNKNOWN, here, gone, "f" * 64]

    answer = await kitchen.admin.post("/api/blob:missing", json={"digests": asked})

    assert {"missing": [UNKNOWN, gone, "f" * 64]} == answer.json()


async def test_many_at_once(kitchen: Kitchen) -> None:
    """
    Ten thousand may be asked for in one request.
    """
    here = await kitchen.keep(LEEK)
    asked = [hashlib.sha256(bytes([place % 256, place // 256])).hexdigest() for place in range(9_999)]

    answer = await kitchen.admin.post("/api/blob:missing", json={"digests": [*asked, here]})

    assert asked == answer.json()["missing"]


async def test_facts(kitchen: Kitchen, clocks: Time) -> None:
    """
    What is known of a blob: its size, its state, where it lies, and which mirrors have it.
    """
    digest = await kitchen.keep(LEEK)
    mirror = await kitchen.mirror("m.example")
    await kitchen.mirror("quiet.example", status=None)

    facts = (await kitchen.admin.get(f"/api/blob/{digest}")).json()

    assert (digest, 4, "present") == (facts["digest"], facts["size"], facts["state"])
    assert facts["created_at"].startswith(f"{clocks.now:%Y-%m-%dT%H:%M}")
    assert [{"store": "local", "state": "kept", "verified_at": None}] == facts["placements"]
    assert [{"id": mirror["id"], "fqdn": "m.example"}] == facts["mirrors"]


async def test_facts_of_nothing(kitchen: Kitchen) -> None:
    """
    What never was here has no facts.
    """
    answer = await kitchen.admin.get(f"/api/blob/{UNKNOWN}")

    assert (404, UNKNOWN) == (answer.status_code, answer.json()["digest"])


@pytest.mark.row("S2")
async def test_deleted(kitchen: Kitchen) -> None:
    """
    A deleted blob is unknown at once, to everybody, and an upload brings it back as new.
    """
    digest = await kitchen.keep(LEEK)

    assert 204 == (await kitchen.admin.delete(f"/api/blob/{digest}")).status_code

    assert 404 == (await kitchen.anyone.get(f"/{digest}")).status_code
    assert 404 == (await kitchen.admin.get(f"/api/blob/{digest}")).status_code
    assert 404 == (await kitchen.admin.delete(f"/api/blob/{digest}")).status_code
    assert [] == (await kitchen.admin.get("/api/blob:list")).json()["blobs"]
    assert 201 == (await kitchen.admin.put(f"/{digest}", content=LEEK)).status_code
    assert LEEK == (await kitchen.anyone.get(f"/{digest}")).content


async def test_blocked(kitchen: Kitchen) -> None:
    """
    A blocked blob is 410 for who reads and for who sends it; unblocked it is what it was.
    """
    digest = await kitchen.keep(LEEK)
    await kitchen.mirror("m.example")

    blocked = await kitchen.admin.patch(f"/api/blob/{digest}", json={"blocked": True})

    assert (200, "blocked", []) == (
        blocked.status_code, blocked.json()["state"], blocked.json()["mirrors"]
    )  # fmt: skip
    for answer in (
        await kitchen.anyone.get(f"/{digest}"),
        await kitchen.anyone.head(f"/{digest}"),
        await kitchen.admin.get(f"/{digest}?direct=1"),
        await kitchen.admin.put(f"/{digest}", content=LEEK),
        await kitchen.admin.post("/api/blob", content=LEEK),
    ):
        assert 410 == answer.status_code
    assert 409 == (await kitchen.admin.delete(f"/api/blob/{digest}")).status_code
    listed = await kitchen.admin.get("/api/blob:list?state=blocked")
    assert [digest] == [blob["digest"] for blob in listed.json()["blobs"]]
    assert [] == (await kitchen.admin.get("/api/blob:list")).json()["blobs"]
    unblocked = await kitchen.admin.patch(f"/api/blob/{digest}", json={"blocked": False})
    assert "present" == unblocked.json()["state"]
    assert 307 == (await kitchen.anyone.get(f"/{digest}")).status_code


async def test_blocking_twice(kitchen: Kitchen) -> None:
    """
    Blocking what is blocked changes nothing, its number in the feed neither.
    """
    digest = await kitchen.keep(LEEK)
    numbers = [
        (await kitchen.admin.patch(f"/api/blob/{digest}", json={"blocked": True})).json()["seq"]
        for _ in range(2)
    ]

    assert numbers[0] == numbers[1]
    assert 404 == (await kitchen.admin.patch(f"/api/blob/{UNKNOWN}", json={"blocked": True})).status_code


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/api/blob"),
        ("PUT", "/api/blob"),
        ("PUT", f"/{UNKNOWN}"),
        ("GET", "/api/blob:list"),
        ("POST", "/api/blob:missing"),
        ("GET", f"/api/blob/{UNKNOWN}"),
        ("DELETE", f"/api/blob/{UNKNOWN}"),
        ("PATCH", f"/api/blob/{UNKNOWN}"),
    ],
)
async def test_without_a_token(kitchen: Kitchen, method: str, path: str) -> None:
    """
    Reading a blob by its digest is open, everything else is not.
    """
    answer = await kitchen.anyone.request(method, path, content=b"{}")

    assert 401 == answer.status_code
    assert 'Bearer realm="soup"' == answer.headers["www-authenticate"]
    assert "application/problem+json" == answer.headers["content-type"]
