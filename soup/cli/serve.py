"""`soup serve`: answer requests."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import rich_click as click

from soup.cli.config import CONFIG, load

if TYPE_CHECKING:
    from soup.prepare import Prepared
    from soup.settings import Settings


@click.command()
@CONFIG
def serve(config: Path | None) -> None:
    """Serve blobs until told to stop.

    Without any settings: on port 8080 of this machine, with everything in ./soup-data.
    """
    from soup.serve import parent
    from soup.settings import FILE

    settings = load(config)
    if config is not None:
        os.environ[FILE] = str(config.absolute())  # for the workers
    with parent.runtime():
        run(settings)


def run(settings: "Settings") -> None:
    """Prepare, then serve."""
    # Inside, because metrics must not be imported before `runtime` has said where workers keep them.
    import structlog

    from soup.core.errors import Refused

    try:
        from soup import app, logs
        from soup.prepare import prepare
    except OSError as error:
        raise Refused(f"cannot write to the temporary folder: {error.strerror}") from error
    from soup.serve import parent
    from soup.settings import unknown

    logs.set_up(settings.log.format, settings.log.level)
    log = structlog.get_logger("soup")
    for name in unknown(os.environ):
        log.warning("environment.unknown", name=name)
    for danger in dangers(settings):
        log.warning("open", danger=danger)
    address = parent.claim(settings.server.host, settings.server.port)
    prepared = prepare(settings)
    parent.serve(
        address=address,
        port=settings.server.port,
        workers=settings.server.workers,
        backlog=settings.server.backlog,
        stop_seconds=settings.server.stop_seconds,
        logging=logs.dictconfig(settings.log.format, settings.log.level),
        application=app.worker,
        started=lambda: welcome(settings, prepared),
    )


def dangers(settings: "Settings") -> list[str]:
    """What these settings leave open, to be said loudly."""
    found: list[str] = []
    if settings.auth.mode == "open":
        found.append("auth.mode is open: whoever reaches this port may write, delete and administer")
    if settings.cdn.report_auth == "none":
        found.append("cdn.report_auth is none: whoever reaches this port may keep a dead mirror in the pool")
    return found


def welcome(settings: "Settings", prepared: "Prepared") -> None:
    """Say where soup is and what to try."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.server.host, settings.server.host)  # noqa: S104
    url = settings.server.url or f"http://{f'[{host}]' if ':' in host else host}:{settings.server.port}"
    token = os.path.relpath(prepared.token)
    bearer = f'-H "Authorization: Bearer $(cat {token})"'
    sys.stdout.write(
        f"soup serves on {url}, with its data in {settings.data.absolute()}\n"
        f"the administrator's token is in {token} ({'made now' if prepared.new else 'as before'})\n"
        "try:\n"
        f"  curl -T README.md {bearer} {url}/api/blob\n"
        f"  curl -L {url}/$(sha256sum README.md | cut -c1-64)\n"
        f"  curl {bearer} {url}/api/cdn:list\n"
    )
    sys.stdout.flush()
