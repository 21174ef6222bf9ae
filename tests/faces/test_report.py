"""What a mirror may say, and how."""

import json
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from soup.core.errors import BadReport, BodyRefused, Invalid
from soup.faces import report
from soup.mirrors.model import HEARTBEAT, Report, Status

JSON, FORM = b"application/json", b"application/x-www-form-urlencoded"
LEEK = "ab" * 32

# As text that stands in a query, and as JSON that stands in a body (S12).
BAD_TEXT = ["4", "-1", "x", "", "1.5", "1.0", "true", "null", "01", "+1", " 1", "1 ", "1e0", "\u0661", "None"]
BAD_JSON = [*map(json.dumps, BAD_TEXT), "4", "-1", "1.5", "1.0", "true", "false", "null", "1e0", "[1]", "{}",
            "NaN", "Infinity", "9" * 400, "-0.0"]  # fmt: skip


def said(query: bytes = b"", media_type: bytes = b"", body: bytes = b"") -> Report:
    return report.parse(query, media_type, body).report()


@pytest.mark.row("S11", "S12")
@pytest.mark.parametrize("status", [0, 1, 2, 3])
def test_a_status(status: int) -> None:
    """
    A status counts wherever it stands, and the text of one counts as one.
    """
    ways = [
        (b"status=%d" % status, b"", b""),
        (b"", FORM, b"status=%d" % status),
        (b"", b"", b"status=%d" % status),
        (b"", JSON, b'{"status": %d}' % status),
        (b"", JSON, b'{"status": "%d"}' % status),
        (b"", FORM, b'{"status": %d}' % status),  # what `curl -d` says it sends
        (b"", b"application/vnd.api+json", b' {"status": %d}\n' % status),
        (b"status=%d" % status, JSON, b'{"status": %d}' % status),
        (b"status=%d" % status, FORM, b"status=%d" % status),
    ]

    assert [Report(Status(status))] * len(ways) == [said(*way) for way in ways]


@pytest.mark.row("S11")
@pytest.mark.parametrize("media_type", [b"", JSON, FORM, b"text/plain", b"application/octet-stream"])
@pytest.mark.parametrize("body", [b"", b" \r\n"])
def test_a_heartbeat(media_type: bytes, body: bytes) -> None:
    """
    Nothing at all is a heartbeat, whatever the body is called.
    """
    assert HEARTBEAT == said(b"", media_type, body)


@pytest.mark.row("S11")
@pytest.mark.parametrize(
    "way",
    [(b"epoch=e&synced_to=5&leaving=true", b"", b""), (b"epoch=e", FORM, b"synced_to=5&leaving=1")],
)
def test_numbers_and_words_as_text(way: tuple[bytes, bytes, bytes]) -> None:
    """
    In a query or a form all is text, and means what it would in JSON; in JSON a number is a number.
    """
    assert Report(leaving=True, epoch="e", synced_to=5) == said(*way)

    with pytest.raises(BadReport):
        said(b"synced_to=five")
    with pytest.raises(BadReport):
        said(b"", JSON, b'{"synced_to": "5"}')


@pytest.mark.parametrize("field", ["message", "epoch", "agent", "boot_id"])
def test_a_nul(field: str) -> None:
    """
    PostgreSQL would refuse it, and with it the reports of all that came at the same moment.
    """
    for way in ((f"{field}=a%00b".encode(), b"", b""), (b"", JSON, json.dumps({field: "a\0"}).encode())):
        with pytest.raises(BadReport, match="NUL"):
            said(*way)


@pytest.mark.row("S11")
def test_an_empty_object() -> None:
    """
    So is an object without a field.
    """
    assert HEARTBEAT == said(b"", JSON, b"{}")


@pytest.mark.row("S12")
@pytest.mark.parametrize("text", BAD_TEXT)
def test_text_that_is_no_status(text: str) -> None:
    """
    Only the four digits are statuses, in a query and in a form.
    """
    for way in (quote(text).encode(), b""), (b"", quote(text).encode()):
        query, body = (b"status=" + part if part or not any(way) else b"" for part in way)
        with pytest.raises(BadReport):
            said(query, FORM, body)


@pytest.mark.row("S12")
@pytest.mark.parametrize("value", BAD_JSON)
def test_json_that_is_no_status(value: str) -> None:
    """
    Nor is anything in JSON that is neither one of four numbers nor the text of one.
    """
    with pytest.raises(BadReport):
        said(b"", JSON, f'{{"status": {value}}}'.encode())


@pytest.mark.row("S12")
@pytest.mark.parametrize("body", [b'{"status": 2}', b'{"status": "2"}', b"status=2"])
def test_a_query_and_a_body_that_differ(body: bytes) -> None:
    """
    A report that says two things says nothing.
    """
    with pytest.raises(BadReport):
        said(b"status=1", b"", body)


UNREADABLE = [
    (b"status=1&status=1", b"", b""),
    (b"", FORM, b"status=1&status=2"),
    (b"", JSON, b'{"status": 1, "status": 1}'),
    (b"status=%ff", b"", b""),
    (b"", FORM, b"\xff"),
    (b"", JSON, b"{"),
    (b"", JSON, b"status=1"),
    (b"", JSON, b"[]"),
    (b"", JSON, b"1"),
    (b"", JSON, b"null"),
    (b"", JSON, b'"status"'),
    (b"", JSON, b'{"status": 1}{}'),
    (b"", JSON, b'\xff\xfe{"status": 1}'),
    (b"", JSON, b'{"a": ' + b"[" * 100_000),
    (b"", JSON, b'{"a": %s}' % (b"9" * 5000)),
    (b"", FORM, b"&".join(b"a%d=" % n for n in range(101))),
]


@pytest.mark.row("S12")
@pytest.mark.parametrize("way", UNREADABLE)
def test_what_cannot_be_read(way: tuple[bytes, bytes, bytes]) -> None:
    """
    What is ambiguous or no report at all is refused.
    """
    with pytest.raises(BadReport):
        said(*way)


@pytest.mark.parametrize("media_type", [b"multipart/form-data", b"image/png", b"application/xml"])
def test_a_body_of_another_kind(media_type: bytes) -> None:
    """
    A body that is neither JSON nor a form is refused by its name.
    """
    with pytest.raises(BodyRefused):
        said(b"", media_type, b"status=1")


@pytest.mark.row("S12")
def test_a_newer_agent() -> None:
    """
    Fields soup does not know are passed over, in every place.
    """
    newer = b'{"status": 1, "mood": "good", "holds": {"smallest": 1, "colour": [1]}, "plans": {"a": null}}'

    assert Report(Status.OK, smallest=1) == said(b"mood=good&_=1", JSON, newer)


def test_everything_an_agent_says() -> None:
    """
    An agent that syncs says how far, what it keeps to, what it lacks, and how it is.
    """
    body = {
        "status": 2, "message": "low disk", "leaving": True, "epoch": "e", "synced_to": 7,
        "holds": {"smallest": 1, "largest": 9}, "lacking": [LEEK], "agent": "soup-cdn-agent/1",
        "disk": {"free": 1, "total": 2}, "boot_id": "b", "totals": {"bytes": 1},
    }  # fmt: skip
    expected = Report(
        Status.WARNING, "low disk", leaving=True, epoch="e", synced_to=7, smallest=1, largest=9,
        lacking=frozenset([LEEK]), agent="soup-cdn-agent/1", disk_free=1, disk_total=2, boot_id="b",
        totals={"bytes": 1},
    )  # fmt: skip

    assert expected == said(b"", JSON, json.dumps(body).encode())


FIELDS = [
    {"message": 1},
    {"message": "x" * 1001},
    {"message": "\ud800"},
    {"agent": "\udfff"},
    {"totals": {"\ud800": 1}},
    {"leaving": "yes"},
    {"leaving": 1},
    {"epoch": "x" * 201},
    {"synced_to": -1},
    {"synced_to": 1.5},
    {"synced_to": True},
    {"synced_to": 2**63},
    {"holds": []},
    {"holds": {"smallest": -1}},
    {"holds": {"smallest": 2, "largest": 1}},
    {"lacking": LEEK},
    {"lacking": [LEEK.upper()]},
    {"lacking": [LEEK + "\n"]},
    {"lacking": [LEEK[1:]]},
    {"lacking": [LEEK] * 1001},
    {"disk": {"free": "much"}},
    {"totals": {"bytes": "much"}},
]


@pytest.mark.parametrize("fields", FIELDS)
def test_a_field_that_cannot_be(fields: dict[str, Any]) -> None:
    """
    A field soup does know is what it must be, or nothing of the report counts.
    """
    with pytest.raises(Invalid):
        said(b"", JSON, json.dumps({"status": 1, **fields}).encode())


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@pytest.mark.row("S12")
@given(anything)
def test_any_value_as_a_status(value: Any) -> None:
    """
    The numbers 0 to 3 and their text are statuses; no other value of JSON is.
    """
    body = json.dumps({"status": value}).encode()
    if (type(value) is int and value in range(4)) or value in ("0", "1", "2", "3"):
        assert int(value) == said(b"", JSON, body).status
    else:
        with pytest.raises(BadReport):
            said(b"", JSON, body)


@pytest.mark.row("S12")
@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text_as_a_status(text: str) -> None:
    """
    The texts 0 to 3 are statuses in a query; no other text is.
    """
    query = urlencode({"status": text}).encode()
    if text in {"0", "1", "2", "3"}:
        assert int(text) == said(query).status
    else:
        with pytest.raises(BadReport):
            said(query)


@given(st.binary(max_size=60), st.sampled_from([JSON, FORM, b"", b"text/plain"]), st.binary(max_size=200))
def test_any_bytes(query: bytes, media_type: bytes, body: bytes) -> None:
    """
    Whatever comes is a report or bad input, never a failure.
    """
    try:
        found = said(query, media_type, body)
    except Invalid:
        return

    assert found.status is None or found.status in Status


@given(st.dictionaries(st.sampled_from(sorted(report.TERMS | {"status", "message", "holds"})), anything))
def test_any_fields(fields: dict[str, Any]) -> None:
    """
    A report can be written down as UTF-8, or it is bad input.
    """
    try:
        found = said(b"", JSON, json.dumps(fields).encode())
    except BadReport:
        return

    assert isinstance((found.message or "").encode(), bytes)
