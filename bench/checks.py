"""What a right answer is, asked for beside the load."""

import base64
import hashlib
import http.client
from collections.abc import Collection
from random import Random

from bench.blobs import Deck
from bench.load import Check

MIRRORS = frozenset(f"mirror-{number}.example" for number in range(1, 4))


def redirect(
    deck: Deck,
    dice: Random,
    hosts: Collection[str] = MIRRORS,
    *,
    alternates: int | None = 2,
    prefix: str = "/",
) -> Check:
    """307 to one of these with the digest asked for, whose base64 the answer names, and so many others.

    `alternates` None: nginx, which names neither.
    """

    def check(connection: http.client.HTTPConnection) -> str:
        digest = deck.draw(dice)
        answer = _ask(connection, prefix + digest)
        place = answer.headers.get("Location", "")
        told = f"{digest}: {answer.status} {dict(answer.headers)}"
        scheme, _, rest = place.partition("://")
        host, _, path = rest.partition("/")
        if answer.status != http.HTTPStatus.TEMPORARY_REDIRECT or scheme != "https":
            return told
        if alternates is None:
            return "" if host in hosts and digest in path else told
        named = "SHA-256=" + base64.b64encode(bytes.fromhex(digest)).decode()
        links = answer.headers.get("Link", "").count("rel=duplicate")
        right = host in hosts and path == digest and answer.headers.get("Digest") == named
        return "" if right and links == alternates else told

    return check


def notfound(deck: Deck, dice: Random) -> Check:
    """404, and nothing else."""

    def check(connection: http.client.HTTPConnection) -> str:
        digest = deck.draw(dice)
        answer = _ask(connection, f"/{digest}")
        return "" if answer.status == http.HTTPStatus.NOT_FOUND else f"{digest}: {answer.status}"

    return check


def whole(deck: Deck, dice: Random) -> Check:
    """200 with bytes that have the digest asked for."""

    def check(connection: http.client.HTTPConnection) -> str:
        digest = deck.draw(dice)
        connection.request("GET", f"/{digest}")
        answer = connection.getresponse()
        body = answer.read()
        right = answer.status == http.HTTPStatus.OK and hashlib.sha256(body).hexdigest() == digest
        return "" if right else f"{digest}: {answer.status} with {len(body)} bytes of another digest"

    return check


def _ask(connection: http.client.HTTPConnection, path: str) -> http.client.HTTPResponse:
    connection.request("GET", path)
    answer = connection.getresponse()
    answer.read()
    return answer
