"""`soup serve`: answer requests."""

import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import rich_click as click

from soup.cli.config import CONFIG, load_to_serve

if TYPE_CHECKING:
    from soup.prepare import Prepared
    from soup.settings import Settings


@click.command()
@CONFIG
def serve(config: Path | None) -> None:
    """Serve blobs until told to stop.

    Without any settings: on port 8080 of this machine, with everything in ./soup-data.
    """
    # Somebody may reload what has just been started: the signal waits until the parent hears.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    from soup.serve.runtime import runtime

    settings = load_to_serve(config)
    with runtime():
        run(settings, config)


def run(settings: "Settings", config: Path | None) -> None:
    """Prepare, then serve."""
    # Inside, because metrics must not be imported before `runtime` has said where workers keep them.
    import structlog

    from soup.core.errors import Refused

    try:
        from soup import logs
        from soup.prepare import prepare
        from soup.serve.listener import listeners
        from soup.serve.parent import Parent
        from soup.serve.reload import Reload
        from soup.serve.worker import work
    except OSError as error:
        raise Refused(f"cannot write to the temporary folder: {error.strerror}") from error
    from soup.tree import FILE, unknown

    logs.set_up(settings.log.format, settings.log.level)
    log = structlog.get_logger("soup")
    for name in unknown(os.environ):
        log.warning("environment.unknown", name=name)
    warn(settings)
    found, held = listeners(settings)

    def again() -> "Settings":
        new = load_to_serve(config)
        warn(new)
        return new

    file = config or (Path(os.environ[FILE]) if os.environ.get(FILE) else None)
    parent = Parent(
        settings,
        found,
        prepare=lambda settings: welcome(settings, prepare(settings)),
        work=work,
        reload=Reload(again, file),
    )
    try:
        parent.run()
    finally:
        for one in held:
            one.close()


def warn(settings: "Settings") -> None:
    """Say loudly what these settings leave open."""
    import structlog

    for danger in dangers(settings):
        structlog.get_logger("soup").warning("open", danger=danger)


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
    if prepared.token is None:
        where = "not here: make another with TOKEN=$(soup token new admin)"
        bearer = '-H "Authorization: Bearer $TOKEN"'
    else:
        file = os.path.relpath(prepared.token)
        where = f"in {file} ({'made now' if prepared.new else 'as before'})"
        bearer = f'-H "Authorization: Bearer $(cat {file})"'
    sys.stdout.write(
        f"soup serves on {url}, with its data in {settings.data.absolute()}\n"
        f"the administrator's token is {where}\n"
        "try:\n"
        f"  curl -T README.md {bearer} {url}/api/blob\n"
        f"  curl -L {url}/$(sha256sum README.md | cut -c1-64)\n"
        f"  curl {bearer} {url}/api/cdn:list\n"
    )
    sys.stdout.flush()
