"""What can be done with tokens."""

import hashlib
import secrets
from datetime import datetime, timedelta

from soup.access import queries
from soup.access.model import Kind, Token
from soup.core.bell import Bell
from soup.core.clock import Clock, utc_now
from soup.core.errors import MirrorUnknown, Unauthenticated
from soup.db.work import Database, Work

OVERLAP = timedelta(hours=24)  # for which a rotated token lives on, unless the new one is used before
NOTED = timedelta(minutes=1)  # how exactly `last_used_at` is kept


class Access:
    """Knows tokens."""

    def __init__(self, database: Database, bell: Bell, *, clock: Clock = utc_now) -> None:
        self._database, self._bell, self._clock = database, bell, clock
        self._known: dict[bytes, Token] = {}
        self._heard = -1
        self._used: set[int] = set()
        self._noted = clock()

    async def refresh(self) -> None:
        """Read all tokens, and write down now and then which were used. Raises DatabaseDown."""
        await self._read()
        now = self._clock()
        if self._used and now - self._noted > NOTED:
            used, self._used, self._noted = self._used, set(), now
            async with self._database.begin() as work:
                await queries.mark(work.session, used, now)

    async def _read(self) -> None:
        rung = self._bell.rung
        async with self._database.reading() as session:
            self._known = await queries.good(session, self._clock())
        self._heard = rung

    async def who(self, secret: str) -> Token:
        """Whose token this is. Raises Unauthenticated for one that nobody has."""
        if self._bell.rung != self._heard:
            await self._read()
        hash = hashlib.sha256(secret.encode()).digest()
        found = self._known.get(hash)
        if found is None:
            async with self._database.reading() as session:
                found = (await queries.good(session, self._clock(), hash)).get(hash)
        if found is None or (found.expires_at is not None and found.expires_at <= self._clock()):
            raise Unauthenticated("this token is not known here, or no longer")
        self._used.add(found.id)
        if found.last_used_at is None and found.kind is Kind.MIRROR:
            await self._first_use(found)
        return found

    async def _first_use(self, token: Token) -> None:
        async with self._database.begin() as work:
            await queries.mark(work.session, [token.id], self._clock())
            await queries.supersede(work.session, token)
            work.after(self._changed)

    async def _changed(self) -> None:
        self._bell.ring()

    async def issue(
        self, work: Work, kind: Kind, mirror_id: int | None = None, until: datetime | None = None
    ) -> str:
        """A new token, in a transaction of somebody else's.

        It is in no table and no log: keep it or lose it.
        """
        secret = f"soup_{secrets.token_urlsafe(32)}"
        now = self._clock()
        if mirror_id is not None:
            await queries.limit(work.session, mirror_id, now + OVERLAP)
        await queries.add(work.session, kind, hashlib.sha256(secret.encode()).digest(), now, mirror_id, until)
        return secret

    async def new(self, kind: Kind, mirror_id: int | None, lasting: timedelta | None) -> str:
        """A new token, which is shown this once. Raises MirrorUnknown for a mirror that is not there."""
        async with self._database.begin() as work:
            if mirror_id is not None and not await queries.has_mirror(work.session, mirror_id):
                raise MirrorUnknown(f"no mirror {mirror_id}")
            until = None if lasting is None else self._clock() + lasting
            secret = await self.issue(work, kind, mirror_id, until)
            work.after(self._changed)
        return secret

    async def every(self) -> list[Token]:
        """All tokens that have not expired, in order of id."""
        async with self._database.reading() as session:
            found = await queries.good(session, self._clock())
        return sorted(found.values(), key=lambda token: token.id)

    async def revoke(self, id: int) -> None:
        """Stop a token, everywhere within a second. Raises TokenUnknown."""
        async with self._database.begin() as work:
            await queries.remove(work.session, id)
            work.after(self._changed)

    async def for_mirror(self, work: Work, mirror_id: int) -> str:
        """A new token for a mirror."""
        return await self.issue(work, Kind.MIRROR, mirror_id)
