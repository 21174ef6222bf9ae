"""Mirrors that join by themselves (D11, S33)."""

import asyncio
from dataclasses import dataclass, replace
from datetime import timedelta

import structlog

from soup import metrics
from soup.core.errors import (
    Busy,
    JoiningFull,
    JoiningOff,
    MirrorBarred,
    MirrorExists,
    NameUnresolved,
    SoupError,
)
from soup.core.names import Names
from soup.db import bell
from soup.db.work import Database, Work
from soup.mirrors import queries
from soup.mirrors.address import judge
from soup.mirrors.model import Mirror, Terms
from soup.mirrors.service import Issue, Mirrors, View

log = structlog.get_logger(__name__)

FORGOTTEN = timedelta(days=7)  # of silence, after which a mirror makes room for one that joins
SECONDS = 5.0  # for the addresses of a name, and for those that have come before


@dataclass(frozen=True, slots=True)
class Conditions:
    """Whether mirrors may join, how many, and whether from private networks."""

    enabled: bool = True
    private: bool = False
    most: int = 1000


@dataclass(frozen=True, slots=True)
class _Joined:
    id: int
    token: str
    new: bool


class Joins:
    """Lets mirrors join. What is written is a mirror like any other, but that it has to pass an audit first.

    Names are looked up apart from those of the audit: whoever joins must not be in its way.
    """

    def __init__(self, database: Database, mirrors: Mirrors, issue: Issue, conditions: Conditions) -> None:
        self._database, self._mirrors, self._issue = database, mirrors, issue
        self._conditions = conditions
        self._names = Names()
        self._turn = asyncio.Lock()

    def become(self, conditions: Conditions) -> None:
        """Go by other conditions from the next request on. Who has joined stays."""
        self._conditions = conditions

    async def join(self, terms: Terms) -> tuple[View, str, bool]:
        """The mirror at this address, its new token, and whether it is new.

        One that has joined before keeps what an administrator has decided about it, and any doubt; where it
        is to be asked in another way it has to pass an audit again. Raises JoiningOff, AddressRefused,
        NameUnresolved, MirrorBarred, MirrorExists for an address that an administrator has added,
        JoiningFull, Busy.
        """
        try:
            joined = await self._join(terms)
        except SoupError:
            metrics.JOINS.labels("refused").inc()
            raise
        metrics.JOINS.labels("new" if joined.new else "again").inc()
        log.info("mirror.joined", id=joined.id, fqdn=terms.fqdn, port=terms.port, new=joined.new)
        return await self._mirrors.one(joined.id), joined.token, joined.new

    async def _join(self, terms: Terms) -> _Joined:
        if not self._conditions.enabled:
            raise JoiningOff("mirrors may not join here: cdn.join.enabled is off")
        judge(await self._addresses(terms.fqdn), private=self._conditions.private)
        # One at a time: many that wait for the database would keep reports out of it.
        try:
            async with asyncio.timeout(SECONDS):
                await self._turn.acquire()
        except TimeoutError as error:
            raise Busy("too many mirrors join at once") from error
        try:
            return await self._write(terms)
        except MirrorExists:  # by now: another process was faster, perhaps with the same mirror
            return await self._write(terms)
        finally:
            self._turn.release()

    async def _addresses(self, fqdn: str) -> list[str]:
        try:
            async with asyncio.timeout(SECONDS):
                return await self._names.addresses(fqdn)
        except OSError as error:  # TimeoutError is one
            reason = str(error) or f"no answer within {SECONDS:g} s"
            raise NameUnresolved(f"soup finds no address of {fqdn} ({reason}): try again") from error

    async def _write(self, terms: Terms) -> _Joined:
        async with self._database.begin() as work:
            there = await queries.at(work.session, terms.fqdn, terms.port)
            if there is not None and not there.joined:
                raise MirrorExists(
                    f"an administrator has added {terms.fqdn} port {terms.port}, which has its own token"
                )
            if there is None:
                id = await self._add(work, terms)
            else:
                id = await self._again(work, there, terms)
            token = await self._issue(work, id)
            await bell.ring(work, self._mirrors.changed)
        return _Joined(id, token, there is None)

    async def _add(self, work: Work, terms: Terms) -> int:
        # After the look at who is there: whoever is thrown out while we look is barred by now.
        if await queries.is_barred(work.session, terms.fqdn, terms.port):
            raise MirrorBarred(
                f"an administrator has barred {terms.fqdn} port {terms.port}, and may add it again"
            )
        most, now = self._conditions.most, await self._database.now(work.session)
        if await queries.joined(work.session) >= most:
            silent = await queries.longest_silent(work.session, now - FORGOTTEN)
            if silent is None:
                raise JoiningFull(f"{most} mirrors have joined, and no more may (cdn.join.most)")
            await queries.remove(work.session, silent.id)
            log.info("mirror.forgotten", id=silent.id, fqdn=silent.terms.fqdn, port=silent.terms.port)
        return await queries.add(work.session, terms, now, joined=True)

    async def _again(self, work: Work, there: Mirror, terms: Terms) -> int:
        known = there.terms
        # Who was trusted with what clients show was so over the scheme it had then.
        trusted = known.trusted and known.scheme == terms.scheme
        changed = replace(known, scheme=terms.scheme, mode=terms.mode, trusted=trusted)
        if changed != known:
            await queries.change(work.session, there.id, changed)
        if changed.address != known.address:
            await queries.unaudit(work.session, there.id, doubted=True)
        return there.id
