"""`soup job`: what soup does unasked, and doing it now."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import rich_click as click

from soup.cli import columns
from soup.cli.config import CONFIG, load, on_database, recognise

if TYPE_CHECKING:
    from soup.db.work import Database
    from soup.jobs.service import Runs
    from soup.runner.clock import Runner

T = TypeVar("T")


@click.group()
def job() -> None:
    """List the jobs, or run one now.

    Needs the database and the folder of blobs that the settings name, beside a soup that runs or without one.
    """


@job.command("ls")
@CONFIG
def every(config: Path | None) -> None:
    """List the jobs: how often each runs, and when, for how long, where and with what result it last did."""
    from soup.core.clock import text

    async def ask(runner: "Runner", runs: "Runs") -> list[tuple[str, ...]]:
        last = {run.name: run for run in await runs.last()}
        rows: list[tuple[str, ...]] = [("job", "every", "last run", "took", "where", "result")]
        for one in runner.jobs.values():
            row = (one.name, f"{one.seconds:g} s")
            run = last.get(one.name)
            if run is None:
                rows.append((*row, "never", "-", "-", "-"))
            else:
                started = text(run.started_at) or "-"
                rows.append((*row, started, f"{run.seconds:.3f} s", run.holder, run.result))
        return rows

    columns.show(_with(config, ask))


@job.command()
@click.argument("name")
@CONFIG
def run(name: str, config: Path | None) -> None:
    """Run a job now, as if its time had come.

    Exit status 1 when it fails.
    """
    from soup.core.errors import Refused

    async def act(runner: "Runner", _: "Runs") -> str:
        if name not in runner.jobs:
            raise Refused(f"there is no job {name!r}, only {', '.join(runner.jobs)}")
        done = await runner.once(name)
        if done.failed:
            raise Refused(f"{name} {done.result}")
        return done.result

    click.echo(f"{name} {_with(config, act)}")


def _with(config: Path | None, act: "Callable[[Runner, Runs], Awaitable[T]]") -> T:
    """Act in a soup that is whole but for two things: it does not listen, and leaves the lease to others."""
    from soup import logs
    from soup.app import build
    from soup.core.errors import Refused
    from soup.jobs.service import Runs
    from soup.stores import identity

    settings = load(config)
    logs.set_up(settings.log.format, settings.log.level)

    async def within(database: "Database") -> T:
        # With this very folder: jobs remove what is in it (D15).
        identity.settle(settings.blobs_folder, await recognise(database))
        soup = build(settings)
        soup.runner.stand_aside()
        async with soup.running():
            if soup.face.closed is not None:
                raise Refused(soup.face.closed)  # one that serves would wait
            return await act(soup.runner, Runs(database))

    return on_database(settings, within)
