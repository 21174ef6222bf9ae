"""`soup token`: make, list and revoke tokens, at the machine and not over the network."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import rich_click as click

from soup.cli import columns
from soup.cli.config import CONFIG, load, on_database, recognise

if TYPE_CHECKING:
    from soup.access.service import Access
    from soup.db.work import Database

T = TypeVar("T")

LONGEST = 36_500  # days
ID = click.IntRange(1, 2**31 - 1)


@click.group()
def token() -> None:
    """Make, list and revoke tokens.

    Works on the database that the settings name; a running soup hears of it within a second.
    """


@token.command()
@click.argument("kind", type=click.Choice(["admin", "write", "read", "mirror", "join"]))
@click.option("--mirror", type=ID, help="The id of the mirror, for a token of kind mirror.")
@click.option("--days", type=float, help=f"Days it works, at most {LONGEST}; without it, until revoked.")
@CONFIG
def new(kind: str, mirror: int | None, days: float | None, config: Path | None) -> None:
    """Make a token and print it: this once, and nowhere else."""
    from soup.access.model import Kind

    if (kind == "mirror") != (mirror is not None):
        raise click.UsageError("a token of kind mirror, and no other, needs --mirror")
    if days is not None and not 0 < days <= LONGEST:  # so that it is said of nan as well
        raise click.UsageError(f"--days must be more than 0 and at most {LONGEST}")
    lasting = None if days is None else timedelta(days=days)
    click.echo(_with(config, lambda access: access.new(Kind(kind), mirror, lasting)))


@token.command("ls")
@CONFIG
def every(config: Path | None) -> None:
    """List tokens: what each may do, since when, until when, and when it was last used."""
    from soup.core.clock import text

    rows = [("id", "kind", "mirror", "created", "expires", "last used")]
    rows += [
        (
            str(one.id),
            one.kind.value,
            str(one.mirror_id or "-"),
            text(one.created_at) or "-",
            text(one.expires_at) or "never",
            text(one.last_used_at) or "never",
        )
        for one in _with(config, lambda access: access.every())
    ]
    columns.show(rows)


@token.command()
@click.argument("id", type=ID)
@CONFIG
def revoke(id: int, config: Path | None) -> None:
    """Revoke a token. It stops working within a second, everywhere."""
    _with(config, lambda access: access.revoke(id))
    click.echo(f"token {id} is revoked")


def _with(config: Path | None, act: "Callable[[Access], Awaitable[T]]") -> T:
    from soup.access.service import Access
    from soup.core.bell import Bell

    async def within(database: "Database") -> T:
        await recognise(database)
        return await act(Access(database, Bell()))

    return on_database(load(config), within)
