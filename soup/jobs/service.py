"""What can be done with runs."""

from soup.db.work import Database
from soup.jobs import queries
from soup.jobs.model import Run

KEPT = 100  # runs of each job


class Runs:
    """Remembers what ran."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def record(self, run: Run) -> None:
        """Write a run down. Raises DatabaseDown."""
        async with self._database.begin() as work:
            await queries.add(work.session, run, KEPT)

    async def last(self) -> list[Run]:
        """The last run of each job. Raises DatabaseDown."""
        async with self._database.reading() as session:
            return await queries.last(session)
