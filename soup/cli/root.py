"""The `soup` command."""

import sys
from importlib.metadata import version

import rich_click as click

from soup.cli.check import check
from soup.cli.feed import feed
from soup.cli.job import job
from soup.cli.migrate import migrate
from soup.cli.mirror import mirror
from soup.cli.serve import serve
from soup.cli.token import token
from soup.core.errors import SoupError


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(version("soup"), prog_name="soup")
def soup() -> None:
    """Keep files under their SHA-256, and let other web servers carry the traffic."""


soup.add_command(serve)
soup.add_command(check)
soup.add_command(migrate)
soup.add_command(mirror)
soup.add_command(token)
soup.add_command(job)
soup.add_command(feed)


def main() -> None:
    """Run the command. What keeps soup from it is a line on standard error and exit status 1, no trace."""
    try:
        soup.main()
    except SoupError as error:
        for line in str(error).splitlines():
            click.echo(f"soup: {line}", err=True)
        sys.exit(1)
