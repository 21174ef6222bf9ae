"""`soup token`: make, list and revoke tokens, at the machine and not over the network."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import rich_click as click

if TYPE_CHECKING:
    from soup.access.service import Access

T = TypeVar("T")

CONFIG = click.option(
    "--config", type=click.Path(path_type=Path), help="Settings file (YAML); else SOUP_CONFIG."
)


@click.group()
def token() -> None:
    """Make, list and revoke tokens.

    Works on the database that the settings name; a running soup hears of it within a second.
    """


@token.command()
@click.argument("kind", type=click.Choice(["admin", "write", "read", "mirror", "join"]))
@click.option("--mirror", type=int, help="The id of the mirror, for a token of kind mirror.")
@click.option(
    "--days", type=click.FloatRange(0, min_open=True), help="Days it works; without it, until revoked."
)
@CONFIG
def new(kind: str, mirror: int | None, days: float | None, config: Path | None) -> None:
    """Make a token and print it: this once, and nowhere else."""
    from soup.access.model import Kind

    if (kind == "mirror") != (mirror is not None):
        raise click.UsageError("a token of kind mirror, and no other, needs --mirror")
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
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


@token.command()
@click.argument("id", type=int)
@CONFIG
def revoke(id: int, config: Path | None) -> None:
    """Revoke a token. It stops working within a second, everywhere."""
    _with(config, lambda access: access.revoke(id))
    click.echo(f"token {id} is revoked")


def _with(config: Path | None, act: "Callable[[Access], Awaitable[T]]") -> T:
    from soup.access.service import Access
    from soup.core.bell import Bell
    from soup.db.work import Database
    from soup.settings import Settings

    settings = Settings.load(os.environ, config)

    async def run() -> T:
        database = Database(settings.database_url)
        try:
            return await act(Access(database, Bell()))
        finally:
            await database.close()

    return asyncio.run(run())
