"""A body that must keep coming, and an early answer that arrives."""

import asyncio
from typing import Any

import pytest

from soup.core.errors import ClientGone, TooSlow
from soup.faces import exchange
from soup.faces.exchange import Exchange, has_body

START = {"type": "http.response.start", "status": 401, "headers": []}
BODY = {"type": "http.response.body", "body": b"refused", "more_body": False}
PIECE = {"type": "http.request", "body": b"x" * 100, "more_body": True}
LAST = {"type": "http.request", "body": b"x", "more_body": False}
LEFT = {"type": "http.disconnect"}


class Client:
    """The other side: what it will send, and what it was sent, in the order in which things happened."""

    def __init__(self, *messages: dict[str, Any], forever: bool = False, **headers: str) -> None:
        self.messages, self.forever = list(messages), forever
        given = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
        self.scope = {"type": "http", "headers": given}
        self.happened: list[str] = []

    async def receive(self) -> dict[str, Any]:
        self.happened.append("read")
        if self.messages:
            return dict(self.messages.pop(0))
        if self.forever:
            await asyncio.sleep(0)
            return dict(PIECE)
        return await asyncio.Event().wait() or {}

    async def send(self, message: Any) -> None:
        self.happened.append(
            "start" if message["type"] == "http.response.start" else message["body"].decode() or "empty"
        )
        if message["type"] == "http.response.start":
            self.headers = message["headers"]

    async def answered(self) -> list[str]:
        """What happens when a whole answer goes out before the body was read."""
        talk = Exchange(self.scope, self.receive, self.send, 30)
        await talk.send(dict(START))
        await talk.send(dict(BODY))
        return self.happened


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """The limits of draining, made short."""
    monkeypatch.setattr(exchange, "PAUSE", 0.05)
    monkeypatch.setattr(exchange, "DRAINED", 1000)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([], False),
        ([(b"content-length", b"0")], False),
        ([(b"content-length", b"1")], True),
        ([(b"transfer-encoding", b"chunked")], True),
    ],
)
def test_whether_a_request_has_a_body(headers: list[tuple[bytes, bytes]], expected: bool) -> None:  # noqa: FBT001
    """
    A body is announced by a length that is not 0, or by chunks.
    """
    assert expected is has_body(headers)


async def test_no_body() -> None:
    """
    Without a body an answer is simply sent, and the connection stays.
    """
    client = Client()

    assert ["start", "refused"] == await client.answered()
    assert [] == client.headers


async def test_a_body_that_is_still_coming() -> None:
    """
    The rest is read before the answer ends: a reset would make the client's kernel throw the answer away.
    """
    client = Client(PIECE, PIECE, LAST, content_length="201")

    assert ["start", "refuse", "read", "read", "read", "d"] == await client.answered()
    assert (b"connection", b"close") in client.headers


async def test_a_client_that_waits_for_100() -> None:
    """
    It never sends its body, and asking for it would make Granian say that it may.
    """
    client = Client(content_length="201", expect="100-Continue")

    assert ["start", "refused"] == await client.answered()
    assert (b"connection", b"close") in client.headers


async def test_a_client_that_waited_and_sends_now() -> None:
    """
    Once a part of the body was read, the client sends on like any other.
    """
    client = Client(PIECE, LAST, content_length="101", expect="100-continue")
    talk = Exchange(client.scope, client.receive, client.send, 30)
    await talk.receive()

    await talk.send(dict(START))
    await talk.send(dict(BODY))

    assert ["read", "start", "refuse", "read", "d"] == client.happened


async def test_a_body_that_was_read() -> None:
    """
    After the whole body an answer is an answer, and the connection stays.
    """
    client = Client(PIECE, LAST, content_length="101")
    talk = Exchange(client.scope, client.receive, client.send, 30)
    await talk.receive()
    await talk.receive()

    await talk.send(dict(START))
    await talk.send(dict(BODY))

    assert ["read", "read", "start", "refused"] == client.happened
    assert [] == client.headers


async def test_a_body_without_end() -> None:
    """
    Only so much is read and forgotten.
    """
    client = Client(forever=True, transfer_encoding="chunked")

    happened = await client.answered()

    assert ["start", "refuse", *["read"] * 10, "d"] == happened


@pytest.mark.parametrize("messages", [[], [PIECE], [LEFT], [PIECE, LEFT]])
async def test_a_client_that_stops(messages: list[dict[str, Any]]) -> None:
    """
    A client that has understood, or has left, is not waited for long: the answer ends.
    """
    client = Client(*messages, content_length="1000")

    assert "d" == (await asyncio.wait_for(client.answered(), 2))[-1]


async def test_silence() -> None:
    """
    Nothing for `idle` seconds in the middle of a body is too slow.
    """
    client = Client(PIECE, content_length="1000")
    talk = Exchange(client.scope, client.receive, client.send, 0.05)
    await talk.receive()

    with pytest.raises(TooSlow):
        await talk.receive()


async def test_left_in_the_middle() -> None:
    """
    A client that leaves before its body was whole is gone.
    """
    client = Client(PIECE, LEFT, content_length="1000")
    talk = Exchange(client.scope, client.receive, client.send, 30)
    await talk.receive()

    with pytest.raises(ClientGone):
        await talk.receive()


async def test_left_after_its_body() -> None:
    """
    Later it may leave as it likes: who waits for that is told.
    """
    client = Client(LAST, LEFT, content_length="1")
    talk = Exchange(client.scope, client.receive, client.send, 30)

    assert ["http.request", "http.disconnect"] == [(await talk.receive())["type"] for _ in range(2)]
