"""A soup that asks PostgreSQL once for each request: what gathering lookups is worth, and nothing to run.

`python -m bench.ungathered serve`, with the settings in the environment.
"""

from typing import Any

from soup.cli.config import load
from soup.serve.runtime import runtime


def main() -> None:
    """As `soup serve`. Workers are forked, so what is changed here is changed in them."""
    settings = load(None)
    with runtime():
        from soup import app  # noqa: PLC0415 - it imports the metrics
        from soup.cli.serve import run  # noqa: PLC0415

        async def ask(self: Any, raw: bytes) -> Any:
            if self._bell.rung != self._rung:
                await self.refresh()
            return (await self._find([raw]))[0]

        index: Any = app.PostgresIndex
        index.ask = ask
        run(settings, None)


if __name__ == "__main__":
    main()
