"""Rows of redirects and of misses."""

from collections.abc import Callable, Mapping
from pathlib import Path

from bench import blobs, checks, servers
from bench.blobs import Deck
from bench.figures import Figure, Turn, compared, interleaved
from bench.load import asking
from bench.machine import LOAD_CORE, SECOND_CORE, SERVER_CORE
from bench.servers import Server
from bench.stand import Stand

Against = Mapping[str, tuple[str, str]]  # which sides a row compares
Sides = Mapping[str, Callable[[], Turn]]

# What is compared stands beside each other in a turn, or nearly.
SQLITE: Against = {
    "redirect.sqlite": ("soup", "nginx"),
    "redirect.skewed": ("soup, skewed", "nginx"),
    "redirect.alternates": ("soup", "soup, no alternates"),
    "notfound.sqlite": ("soup, 404", "soup"),
}
POSTGRES: Against = {
    "redirect.postgres.cold": ("soup, PostgreSQL", "nginx"),
    "redirect.postgres.alone": ("soup, PostgreSQL", "soup, PostgreSQL, a query each"),
    "redirect.postgres.skewed": ("soup, PostgreSQL, skewed", "nginx"),
    "notfound.postgres": ("soup, PostgreSQL, 404", "soup, PostgreSQL"),
}
REGISTRY: Against = {"registry": ("docker-registry", "nginx")}
WORKERS: Against = {"workers": ("soup, two workers", "soup")}
LAYERS = 10_000  # blobs of docker-registry, whose memory of them is its default
WARM = 25  # seconds: a table of known blobs fills with what is asked for often
PLAIN = {"SOUP_CDN__ALTERNATES": "0"}


def sqlite(stand: Stand, rows: list[str]) -> list[Figure]:
    """SQLite beside nginx."""
    sides: Sides = {
        "soup, 404": lambda: missed(stand, stand.soup()),
        "soup, no alternates": lambda: found(stand, stand.soup("soup, no alternates", **PLAIN), alternates=0),
        "soup": lambda: found(stand, stand.soup()),
        "nginx": lambda: nginx(stand),
        "soup, skewed": lambda: _warm(stand, stand.soup("soup, skewed")),
    }
    return measured(stand, {row: SQLITE[row] for row in rows}, sides)


def postgresql(stand: Stand, rows: list[str]) -> list[Figure]:
    """PostgreSQL, on the servers' core as well, beside nginx."""
    alone = "soup, PostgreSQL, a query each"
    # Whoever has answered a skewed load knows its blobs; each digest of the other load has to be new.
    warm = "soup, PostgreSQL, skewed"
    sides: Sides = {
        "soup, PostgreSQL, 404": lambda: missed(stand, stand.soup_on_postgres()),
        alone: lambda: found(stand, stand.soup_on_postgres(alone, module="bench.ungathered")),
        "soup, PostgreSQL": lambda: found(stand, stand.soup_on_postgres()),
        "nginx": lambda: nginx(stand),
        warm: lambda: _warm(stand, stand.soup_on_postgres(warm)),
    }
    return measured(stand, {row: POSTGRES[row] for row in rows}, sides)


def registry(stand: Stand, rows: list[str]) -> list[Figure]:
    """docker-registry beside nginx."""

    def turn() -> Turn:
        root, layers = stand.new("registry"), stand.new("layers") / "known"
        deck = blobs.deck(layers, LAYERS)
        _layers(root, deck)
        server = stand.stack.enter_context(servers.registry(stand.folder, root))
        prefix = "/v2/soup/blobs/sha256:"
        check = checks.redirect(deck, stand.dice, alternates=None, prefix=prefix)
        return asking(server, deck, stand.seconds, check, prefix=prefix)

    sides: Sides = {"docker-registry": turn, "nginx": lambda: nginx(stand)}
    return measured(stand, {row: REGISTRY[row] for row in rows}, sides)


def workers(stand: Stand, rows: list[str]) -> list[Figure]:
    """Two workers on both cores, one of which is the load's where there are no more."""
    both = {"SOUP_SERVER__WORKERS": "2", "cores": f"{SERVER_CORE},{SECOND_CORE}"}
    sides: Sides = {
        "soup, two workers": lambda: found(stand, stand.soup("soup, two workers", **both)),
        "soup": lambda: found(stand, stand.soup()),
    }
    figures = measured(stand, {row: WORKERS[row] for row in rows}, sides)
    for figure in figures if SECOND_CORE == LOAD_CORE else []:
        figure.notes.append("workers: the second one shares its core with the load")
    return figures


def measured(stand: Stand, against: Against, sides: Sides) -> list[Figure]:
    """Rounds of all sides that rows need, in the order of `sides`, and what they come to."""
    needed = {side for pair in against.values() for side in pair}
    turns = {name: make() for name, make in sides.items() if name in needed}
    rounds = interleaved(turns, stand.pairs)
    return [compared(row, ours, theirs, rounds) for row, (ours, theirs) in against.items()]


def found(
    stand: Stand, server: Server, deck: Deck | None = None, *, alternates: int = 2, mirrors: int = 3
) -> Turn:
    """307 for known digests."""
    deck = deck or stand.deck()
    hosts = {f"mirror-{number}.example" for number in range(1, mirrors + 1)}
    check = checks.redirect(deck, stand.dice, hosts, alternates=alternates)
    return asking(server, deck, stand.seconds, check)


def missed(stand: Stand, server: Server) -> Turn:
    """404 for unknown ones."""
    deck = stand.strangers()
    return asking(server, deck, stand.seconds, checks.notfound(deck, stand.dice), found=False)


def nginx(stand: Stand) -> Turn:
    """307 of nginx."""
    deck = stand.deck()
    check = checks.redirect(deck, stand.dice, alternates=None)
    return asking(stand.nginx(), deck, stand.seconds, check)


def _warm(stand: Stand, server: Server) -> Turn:
    """A skewed load, after so much of it that a worker remembers what it is going to."""
    deck = stand.skewed()
    check = checks.redirect(deck, stand.dice)
    asking(server, deck, WARM, check)()
    return asking(server, deck, stand.seconds, check)


def _layers(root: Path, deck: Deck) -> None:
    """What docker-registry keeps of a blob: its bytes, and a link from the repository."""
    base = root / "docker/registry/v2"
    for line in deck.file.read_text().splitlines():
        blob = base / "blobs/sha256" / line[:2] / line
        link = base / "repositories/soup/_layers/sha256" / line
        for folder, name, text in ((blob, "data", line), (link, "link", f"sha256:{line}")):
            folder.mkdir(parents=True)
            (folder / name).write_text(text)
