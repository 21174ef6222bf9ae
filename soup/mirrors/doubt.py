"""What an audit means for a mirror. Pure: the moment is an argument (D20)."""

from datetime import datetime, timedelta
from enum import Enum, auto

from soup.mirrors.model import Mirror, Verdict
from soup.mirrors.policy import Member

RENEWED = timedelta(minutes=1)  # after which it is written down again that a mirror passes its audits


class Ruling(Enum):
    """What is written down of a mirror: that it is doubted, still or anew, or that it has passed an audit.

    CLEARED: it was doubted, and is no more.
    """

    NOTHING = auto()
    PASSED = auto()
    CLEARED = auto()
    DOUBTED = auto()
    STILL = auto()


def claims(member: Member, raw: bytes, seq: int, size: int) -> bool:
    """Whether a mirror has a blob, by what it says."""
    return member.covers >= seq and raw not in member.lacking and member.smallest <= size <= member.largest


def rule(mirror: Mirror, verdict: Verdict, now: datetime) -> Ruling:
    """What a verdict means for a mirror as it is now: nothing where it has another address by now.

    No answer says something only of a mirror that has passed an audit at this address: one that this core
    cannot reach may serve others well. Of one that joined by itself it says why it is not chosen yet.
    """
    if mirror.terms.address != verdict.mirror.terms.address:
        return Ruling.NOTHING
    doubted, passed = mirror.doubt_reason is not None, mirror.audited_at
    if verdict.fault is None:
        if doubted:
            return Ruling.CLEARED
        fresh = passed is not None and timedelta(0) <= now - passed < RENEWED
        return Ruling.NOTHING if fresh else Ruling.PASSED
    if doubted:
        return Ruling.STILL
    unknown = verdict.silent and passed is None and not mirror.joined
    return Ruling.NOTHING if unknown else Ruling.DOUBTED
