"""`soup mirror`: list, add, drain and remove mirrors, at the machine and not over the network."""

import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, get_args

import rich_click as click

from soup.cli import columns
from soup.cli.config import CONFIG, load, on_database, recognise
from soup.mirrors.model import PORTS, Fqdn, Mode, Scheme, Terms

if TYPE_CHECKING:
    from soup.db.work import Database
    from soup.mirrors.service import Mirrors, View

T = TypeVar("T")

ID = click.IntRange(1, 2**31 - 1)


@click.group()
def mirror() -> None:
    """List, add, drain and remove mirrors.

    Works on the database that the settings name; a running soup hears of it within a second.
    """


@mirror.command("ls")
@CONFIG
def every(config: Path | None) -> None:
    """List mirrors: what each says, whether it is chosen and why not, what it has delivered today, and
    whether it joined by itself.
    """
    rows: list[tuple[str, ...]] = [
        ("id", "address", "status", "online", "chosen", "synced to", "today", "joined")
    ]
    rows += [_row(view) for view in _with(config, lambda mirrors: mirrors.every())]
    columns.show(rows)


def _row(view: "View") -> tuple[str, ...]:
    said = view.mirror.said
    status = "-" if said is None or said.status is None else said.status.name.lower()
    synced = "-" if said is None or said.synced_to is None else str(said.synced_to)
    return (
        str(view.mirror.id),
        view.mirror.origin,
        status,
        "yes" if view.online else "no",
        "yes" if view.why is None else f"no: {view.why}",
        synced,
        _readable(view.delivered.today.bytes),
        "yes" if view.mirror.joined else "no",
    )


def _readable(size: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:  # noqa: PLR2004 - of these units
            return f"{size:.4g} {unit}"
        size /= 1024
    return f"{size:.4g} TiB"


@mirror.command()
@click.argument("fqdn")
@click.option("--scheme", type=click.Choice(get_args(Scheme)), default="https", show_default=True)
@click.option("--port", type=click.IntRange(1, 65_535), help="Without it, that of the scheme.")
@click.option("--mode", type=click.Choice(get_args(Mode)), default="full", show_default=True)
@click.option("--weight", type=click.IntRange(1, 1000), default=1, show_default=True)
@click.option("--core", multiple=True, help="URL of soup: print the settings of the mirror's agent.")
@CONFIG
def add(
    fqdn: str,
    scheme: Scheme,
    port: int | None,
    mode: Mode,
    weight: int,
    core: tuple[str, ...],
    config: Path | None,
) -> None:
    """Add a mirror, and print its id and its token: this once, and nowhere else.

    If its address was barred, it is no more.
    """
    terms = Terms(Fqdn(fqdn), scheme, port or PORTS[scheme], mode, weight)
    view, token = _with(config, lambda mirrors: mirrors.create(terms))
    if core:
        click.echo(f"core = {json.dumps(core)}\nid = {view.mirror.id}\ntoken = {json.dumps(token)}")
    else:
        click.echo(f"{view.mirror.id} {token}")


@mirror.command()
@click.argument("id", type=ID)
@CONFIG
def drain(id: int, config: Path | None) -> None:
    """Choose a mirror no more, until it is undrained. It goes on reporting and syncing."""
    _with(config, lambda mirrors: mirrors.change(id, lambda terms: replace(terms, drained=True)))
    click.echo(f"mirror {id} is drained")


@mirror.command()
@click.argument("id", type=ID)
@CONFIG
def undrain(id: int, config: Path | None) -> None:
    """Choose a mirror again."""
    _with(config, lambda mirrors: mirrors.change(id, lambda terms: replace(terms, drained=False)))
    click.echo(f"mirror {id} is drained no more")


@mirror.command()
@click.argument("id", type=ID)
@click.option("--bar", is_flag=True, help="For good: no mirror may join at its address.")
@CONFIG
def rm(id: int, bar: bool, config: Path | None) -> None:  # noqa: FBT001 - a flag
    """Forget a mirror, its tokens and what it has delivered. Its id is never used again."""
    _with(config, lambda mirrors: mirrors.remove(id, bar=bar))
    click.echo(f"mirror {id} is removed{', and may not join again' if bar else ''}")


@mirror.command()
@CONFIG
def barred(config: Path | None) -> None:
    """List addresses at which no mirror may join. To add a mirror there lifts it."""
    from soup.core.clock import text

    rows: list[tuple[str, ...]] = [("fqdn", "port", "since")]
    rows += [
        (one.fqdn, str(one.port), text(one.since) or "-")
        for one in _with(config, lambda mirrors: mirrors.barred())
    ]
    columns.show(rows)


@mirror.command()
@click.argument("id", type=ID)
@CONFIG
def token(id: int, config: Path | None) -> None:
    """Print a new token for a mirror. The old one works until the new one is used, or for a day."""
    click.echo(_with(config, lambda mirrors: mirrors.rotate(id)))


def _with(config: Path | None, act: "Callable[[Mirrors], Awaitable[T]]") -> T:
    """Act by the rules of the settings, beside a soup that runs or without one."""
    from random import Random

    from soup import logs
    from soup.access.service import Access
    from soup.app import rules
    from soup.blobs import queries
    from soup.core.bell import Bell
    from soup.core.clock import steady
    from soup.mirrors.picture import Live
    from soup.mirrors.service import Mirrors, Reports

    settings, bell = load(config), Bell()
    logs.set_up(settings.log.format, settings.log.level)

    async def within(database: "Database") -> T:
        await recognise(database)

        async def history() -> tuple[str, int]:
            async with database.reading() as session:
                feed = await queries.history(session)
            return feed.epoch, feed.head

        live = Live(Reports(database), bell, rules(settings), history, monotonic=steady)
        issue = Access(database, bell).for_mirror
        return await act(Mirrors(database, live, bell, issue, dice=Random()))  # noqa: S311 - nothing is drawn

    return on_database(settings, within)
