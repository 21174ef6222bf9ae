"""Blobs drawn by chance, for whoever wants to try some of very many.

Digests are as good as dice: the blobs that follow one that is drawn are as mixed in every other way as any,
and cost one look into an index whatever the number of blobs.
"""

from random import Random

from soup.blobs import queries
from soup.blobs.model import Facts
from soup.core.blob import State
from soup.core.digest import Digest
from soup.db.work import Database

LOOKED = 1000  # rows looked at for a blob of some sizes


class Samples:
    """Draws blobs that are present."""

    def __init__(self, database: Database, dice: Random) -> None:
        self._database, self._dice = database, dice

    async def some(self, most: int) -> list[Facts]:
        """Up to so many, from anywhere. Raises DatabaseDown."""
        start = Digest.from_raw(self._dice.randbytes(32))
        async with self._database.reading() as session:
            found = await queries.listed(session, start, most, State.PRESENT)
            if len(found) < most:
                found += await queries.listed(session, None, most - len(found), State.PRESENT)
        return found

    async def early(self, upto: int, smallest: int, largest: int) -> Facts | None:
        """One whose number is no greater than `upto`, and its size within these bounds, in bytes.

        None where there is none close to the number that was drawn. Raises DatabaseDown.
        """
        async with self._database.reading() as session:
            last = min(upto, (await queries.history(session)).head)
            if last < 1:
                return None
            first = self._dice.randint(0, last - 1)
            found = await queries.changes(session, first, LOOKED)
        fitting = [
            facts
            for facts in found
            if facts.state is State.PRESENT and facts.seq <= last and smallest <= facts.size <= largest
        ]
        return self._dice.choice(fitting) if fitting else None

    async def now(self, digest: Digest) -> Facts | None:
        """What the database says of a blob now; None where it may not be read. Raises DatabaseDown."""
        async with self._database.reading() as session:
            return (await queries.known(session, [digest])).get(digest)
