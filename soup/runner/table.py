"""The jobs: name, interval, function."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from soup.access.service import Access
from soup.blobs.scrub import Scrub
from soup.blobs.service import Blobs
from soup.db.lease import Held
from soup.mirrors.service import Mirrors
from soup.runner.aside import Aside
from soup.runner.audit import Audit
from soup.runner.repair import Repair


@dataclass(frozen=True, slots=True)
class Job:
    """`run` takes the lease it runs under, and returns how much it did, soon after that lease is `over`.

    `often`: it does something at nearly every run, which is no news. `aside` has what its runs leave behind
    to be finished while the next ones go on.
    """

    name: str
    seconds: float
    run: Callable[[Held], Awaitable[int]]
    often: bool = False
    aside: Aside | None = None


def jobs(
    blobs: Blobs,
    scrub: Scrub,
    mirrors: Mirrors,
    access: Access,
    audit: Audit,
    repair: Repair,
    *,
    mirrors_sweep: float,
    mirrors_audit: float,
    blobs_repair: float,
    blobs_sweep: float,
    blobs_scrub: float,
    blobs_count: float,
    feed_trim: float,
    tokens_expire: float,
) -> tuple[Job, ...]:
    """Every job soup has."""
    return (
        Job("mirrors.sweep", mirrors_sweep, mirrors.sweep),  # silent mirrors become status 0 (S16)
        Job("feed.trim", feed_trim, blobs.trim),  # readers get a month to hear of a deletion (D7)
        Job("tokens.expire", tokens_expire, access.expire),
        Job("blobs.count", blobs_count, blobs.count),  # for the metrics
        Job("blobs.scrub", blobs_scrub, scrub.run),  # a disk that forgets is to be found out
        Job("blobs.sweep", blobs_sweep, blobs.sweep),  # bytes of gone blobs, and what crashes left (D17)
        # Nobody is to be sent to a hole (C31), and what a disk forgot mirrors may have.
        Job("mirrors.audit", mirrors_audit, audit.run, often=True, aside=audit.under_way),
        Job("blobs.repair", blobs_repair, repair.run, aside=repair.under_way),
    )
