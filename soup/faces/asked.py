"""What a request for a blob says besides its digest. Most say nothing."""

from dataclasses import dataclass, replace
from urllib.parse import parse_qsl

from soup.access.model import Kind
from soup.core.errors import Invalid, Unauthenticated, Unavailable
from soup.faces import reply
from soup.faces.auth import CREDENTIALS, Doors
from soup.faces.manners import Manners

MIRRORS = "mirrors"
READERS = frozenset({Kind.ADMIN, Kind.READ, Kind.MIRROR})


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request says besides the digest.

    `trusted`: it carries credentials, which not every mirror may see (C14a). `mirror` is the id of the mirror
    that asks, 0 for anybody else; `elsewhere`: it would as soon fetch the bytes from another mirror.
    """

    trusted: bool = False
    mirror: int = 0
    direct: bool = False
    elsewhere: bool = False
    download: str | None = None


PLAIN = Asked()


class Asking:
    """Finds out who asks, and what for."""

    def __init__(self, doors: Doors, manners: Manners) -> None:
        self._doors, self._manners = doors, manners

    async def what(self, headers: dict[bytes, bytes], query: bytes) -> Asked:
        """What is said besides the digest.

        Raises Invalid; Unauthenticated and Denied where reading needs a token (D11).
        """
        asked = PLAIN
        if self._manners.closed or not CREDENTIALS.isdisjoint(headers):
            asked = Asked(trusted=True, mirror=await self._mirror(headers))
        return _query(query, asked) if query else asked

    async def _mirror(self, headers: dict[bytes, bytes]) -> int:
        """The id of the mirror that asks; 0 where none does.

        Where reading needs no token, one that nobody has changes nothing, and neither does one that cannot be
        asked after: clients send what they hold to everybody.
        """
        if self._manners.closed:
            return (await self._doors.need(headers, READERS)).mirror_id or 0
        if b"authorization" not in headers:
            return 0
        try:
            token = await self._doors.who(headers)
        except (Unauthenticated, Unavailable):
            return 0
        return (token.mirror_id or 0) if token is not None else 0


def _query(query: bytes, asker: Asked) -> Asked:
    """What a query asks for with `direct`, `from` and `download`; anything else in it is ignored (C13).

    What is no UTF-8 is kept as what no value of ours can be.
    """
    text = query.decode(errors="surrogateescape")
    fields = dict(parse_qsl(text, keep_blank_values=True, errors="surrogateescape"))
    direct = fields.get("direct", "0")
    if direct not in {"0", "1"}:
        raise Invalid(f"direct is 0 or 1, not {direct[:20]!r}")
    if asker.mirror and fields.get("from", MIRRORS) != MIRRORS:
        raise Invalid(f"from is {MIRRORS}, not {fields['from'][:20]!r}")
    download = fields.get("download")
    return replace(
        asker,
        direct=direct == "1",
        elsewhere="from" in fields,
        download=None if download is None else reply.file_name(download),
    )
