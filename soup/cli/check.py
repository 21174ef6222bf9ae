"""`soup check`: are these good settings."""

import os
from pathlib import Path

import rich_click as click

from soup.cli.config import CONFIG, load_to_serve


@click.command()
@CONFIG
def check(config: Path | None) -> None:
    """Check the settings and say every fault at once.

    Exit status 1 if there is any. Nothing is started or made.
    """
    from soup.tree import unknown

    settings = load_to_serve(config)
    for name in unknown(os.environ):
        click.echo(f"soup: {name} is in the environment and means nothing to soup", err=True)
    click.echo(f"The settings are good: data in {settings.data.absolute()}, port {settings.server.port}.")
