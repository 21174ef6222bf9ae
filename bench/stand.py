"""What rows share: a folder, databases, and the servers that run for a while."""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from bench import blobs, servers
from bench.blobs import Deck
from bench.machine import SERVER_CORE
from bench.postgres import Postgres, postgres
from bench.servers import Server

THREE = 3  # mirrors
STRANGERS = 200_000


@dataclass
class Stand:
    """What is asked of the bench, and what stands ready for the rows of a group.

    `kept` is where databases are, and stay if somebody named it; `folder` is gone in the end. `above` is how
    much the memory of each soup has grown by, in bytes.
    """

    folder: Path
    kept: Path
    pairs: int
    seconds: int
    blobs: int = 1_000_000
    many: int = 10_000_000
    mirrors: int = 10_000
    say: Callable[[str], None] = print
    stack: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    above: dict[str, int] = field(default_factory=dict)
    dice: Random = field(default_factory=lambda: Random(5))  # noqa: S311 - which answers are looked at
    _count: int = 0
    _running: dict[str, Server] = field(default_factory=dict)
    _postgres: Postgres | None = None

    def new(self, name: str) -> Path:
        """A folder of this run."""
        self._count += 1
        found = self.folder / f"{self._count}-{name}"
        found.mkdir()
        return found

    def deck(self, size: int = 0) -> Deck:
        """Digests that are known where there are so many blobs."""
        size = size or self.blobs
        return blobs.deck(self.kept / f"known-{size}", size)

    def strangers(self) -> Deck:
        """Digests that nobody knows."""
        return blobs.deck(self.kept / "unknown", STRANGERS, seed=8)

    def skewed(self) -> Deck:
        """Known ones, a tenth of them for nine requests of ten."""
        return blobs.skewed(self.kept / f"skewed-{self.blobs}", self.blobs)

    def nginx(self) -> Server:
        """One nginx that redirects, for the whole group."""
        if "nginx" not in self._running:
            self._running["nginx"] = self.stack.enter_context(servers.nginx(self.new("nginx")))
        return self._running["nginx"]

    def data(self, size: int, copy: str = "") -> Path:
        """A data folder of soup with SQLite and so many blobs; `copy` tells two of a size apart."""
        data = self.kept / f"sqlite-{size}"
        if not (data / "filled").exists():
            self.say(f"... {size:,} blobs for SQLite")
        blobs.sqlite(data, size)
        return blobs.copied(data, data.with_name(data.name + copy)) if copy else data

    def soup(self, name: str = "soup", size: int = 0, mirrors: int = THREE, **settings: str) -> Server:
        """A soup on SQLite for the group; soups of other names have other settings."""
        if name not in self._running:
            # Two soups that take turns share no file: what one does to it is not the other's cost.
            copy = "" if name == "soup" or size else "-" + "".join(filter(str.isalnum, name))
            data = self.data(size or self.blobs, copy)
            blobs.mirrors(data / "soup.db", mirrors)
            self._running[name] = self.start(name, data, **settings)
        return self._running[name]

    def start(self, name: str, data: Path, **settings: str) -> Server:
        """A soup for the group, on whatever is in a data folder."""
        log = self.folder / f"{name}.log"
        module = settings.pop("module", "soup")
        database = settings.pop("database", "")
        cores = settings.pop("cores", SERVER_CORE)
        roots = (self.postgres().pid,) if database else ()
        running = servers.soup(
            data, log, name, database=database, module=module, cores=cores, roots=roots, **settings
        )
        server = self.stack.enter_context(running)
        self.stack.callback(self._weigh, server)
        return server

    def _weigh(self, server: Server) -> None:
        if server.idle:
            grown = server.most - server.idle
            self.above[server.name] = max(self.above.get(server.name, 0), grown)

    def postgres(self) -> Postgres:
        """One cluster for the group."""
        if self._postgres is None:
            self._postgres = self.stack.enter_context(postgres(self.kept / "postgres"))
        return self._postgres

    def soup_on_postgres(self, name: str = "soup, PostgreSQL", **settings: str) -> Server:
        """A soup on PostgreSQL for the group; several of them share the database."""
        if name not in self._running:
            database, data = f"soup_{self.blobs}", self.kept / f"postgres-{self.blobs}"
            url, filled = self.postgres().url(database), data / "filled"
            if self.postgres().create(database) or not filled.exists():
                self.say(f"... {self.blobs:,} blobs for PostgreSQL")
                self.postgres().drop(database)
                self.postgres().create(database)
                blobs.postgresql(url, data, self.blobs)
                filled.touch()
            if not any(name.startswith("soup, PostgreSQL") for name in self._running):
                blobs.mirrors(url, THREE)
            self._running[name] = self.start(name, data, database=url, **settings)
        return self._running[name]

    def clear(self) -> None:
        """End what runs."""
        self.stack.close()
        self._running.clear()
        self._postgres = None
