"""The `soup` command beside a server: on its data and its database."""

from typing import Any

from tests.command import Ended, soup
from tests.conftest import Server
from tests.databases import KIND


def beside(server: Server, *arguments: str, **settings: Any) -> Ended:
    """Run it. `store__folder=...` is SOUP_STORE__FOLDER."""
    given = {"data": server.data, "database": KIND.url(server.data)} | settings
    environment = {f"SOUP_{name.upper()}": str(value) for name, value in given.items()}
    return soup(*arguments, cwd=server.data.parent, **environment)


def rows(ended: Ended) -> list[list[str]]:
    """The table it printed: what the columns are called, then its rows. Cells are two blanks apart."""
    assert (0, "") == (ended.returncode, ended.stderr), ended
    return [[cell.strip() for cell in line.split("  ") if cell] for line in ended.stdout.splitlines()]
