"""What can be done with tokens."""

import asyncio
import hashlib
import secrets
from collections.abc import Sequence
from datetime import datetime, timedelta

from soup import metrics
from soup.access import queries
from soup.access.joining import Secret
from soup.access.model import JOINER, Kind, Token
from soup.core.bell import Bell
from soup.core.clock import Clock, utc_now
from soup.core.errors import MirrorUnknown, Unauthenticated
from soup.core.gather import Gather
from soup.db import bell
from soup.db.lease import Held
from soup.db.work import Database, Work

OVERLAP = timedelta(hours=24)  # for which a rotated token lives on, unless the new one is used before
ANEW = 60.0  # seconds after which all tokens are read, though nobody has rung
NOTED = timedelta(minutes=1)  # how exactly `last_used_at` is kept
PAUSE = 0.1  # seconds between two questions after tokens that are not known here
STRANGERS = 1000  # tokens in one such question
REMEMBERED = 100_000  # that nobody has, after which they are asked for again
UNUSED = 4  # tokens that a mirror has and has never used: more are forgotten, the eldest first


class Access:
    """Knows tokens, and the secret in a file by which mirrors may join."""

    def __init__(
        self, database: Database, near: Bell, *, clock: Clock = utc_now, joining: Secret | None = None
    ) -> None:
        self._database, self._bell, self._clock = database, near, clock
        self.joining = joining or Secret()
        self._known: dict[bytes, Token] = {}
        self._strangers: set[bytes] = set()  # nobody had these when they were last asked after
        self._heard, self._began = -1, 0.0  # what the bell said when all were last read, and when that was
        self._news: Gather[None, None] = Gather(self._hear, pause=0, most=1 << 30, limit=database.seconds)
        self._asked: Gather[bytes, Token | None] = Gather(
            self._find, pause=PAUSE, most=STRANGERS, limit=database.seconds
        )
        self._used: set[int] = set()
        self._noted = clock()

    async def look(self) -> None:
        """Take up another secret for joining, and read all tokens now and then. Raises DatabaseDown."""
        if asyncio.get_running_loop().time() - self._began >= ANEW:
            await self.refresh()
        else:
            await self.joining.look()

    async def refresh(self) -> None:
        """Read all tokens, and write down now and then which were used. Raises DatabaseDown."""
        await self.joining.look()
        await self._read()
        now = self._clock()
        if self._used and abs(now - self._noted) > NOTED:  # a clock may be set back
            used, self._used, self._noted = self._used, set(), now
            async with self._database.begin() as work:
                await queries.mark(work.session, used, now)

    async def _read(self) -> None:
        rung, began = self._bell.rung, asyncio.get_running_loop().time()
        async with self._database.reading() as session:
            known = await queries.good(session, self._clock())
        self._began = began
        self._known, self._strangers, self._heard = known, set(), rung

    async def _hear(self, asked: Sequence[None]) -> Sequence[None]:
        if self._bell.rung != self._heard:
            await self._read()
        return asked

    async def _find(self, hashes: Sequence[bytes]) -> Sequence[Token | None]:
        # What is read anew meanwhile takes the place of these two, and is newer than what is found here.
        known, strangers = self._known, self._strangers
        async with self._database.reading() as session:
            found = await queries.good(session, self._clock(), hashes)
        known |= found
        if len(strangers) > REMEMBERED:
            strangers.clear()
        strangers |= set(hashes) - set(found)
        return [found.get(hash) for hash in hashes]

    async def who(self, secret: str) -> Token:
        """Whose token this is. Raises Unauthenticated for one that nobody has.

        Those that are not known here are asked after together, ten times a second at most, and none twice
        before all are read anew: a token is random, so one that nobody has now nobody will have later.
        """
        if self._bell.rung != self._heard:
            await self._news.ask(None)
        hash = hashlib.sha256(secret.encode()).digest()
        if self.joining.is_it(hash):
            return JOINER
        found = self._known.get(hash)
        if found is None and hash not in self._strangers:
            found = await self._asked.ask(hash)
        if found is None or (found.expires_at is not None and found.expires_at <= self._clock()):
            metrics.TOKENS_UNKNOWN.inc()
            raise Unauthenticated("this token is not known here, or no longer")
        self._used.add(found.id)
        if found.last_used_at is None and found.kind is Kind.MIRROR:
            await self._first_use(found)
        return found

    async def _first_use(self, token: Token) -> None:
        async with self._database.begin() as work:
            await queries.mark(work.session, [token.id], self._clock())
            await queries.supersede(work.session, token)
            await bell.ring(work, self._changed)

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
            await queries.prune(work.session, mirror_id, UNUSED - 1)
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
            await bell.ring(work, self._changed)
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
            await bell.ring(work, self._changed)

    async def expire(self, held: Held) -> int:
        """Forget tokens that have expired; how many. Raises LeaseLost."""
        async with self._database.begin() as work:
            await held.check(work.session)
            return await queries.expire(work.session, await self._database.now(work.session))

    async def for_mirror(self, work: Work, mirror_id: int) -> str:
        """A new token for a mirror."""
        return await self.issue(work, Kind.MIRROR, mirror_id)
