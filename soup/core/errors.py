"""Everything that can go wrong on purpose. Statuses are the faces' business."""

import re


class SoupError(Exception):
    """Everything soup raises on purpose.

    SoupError
    ├── Invalid          the request cannot be right     BadDigest, BadRange, BadReport, BadMirror, BadBody,
    │                                                    DigestMismatch, LengthRequired, BodyRefused,
    │                                                    HeaderTooLarge
    ├── Unauthenticated  nobody we know
    ├── Denied           somebody we know, who may not   MirrorBarred, JoiningOff, AddressRefused
    ├── NotFound         no such thing                   BlobUnknown, MirrorUnknown, TokenUnknown
    ├── Gone             was here, and will not be       BlobBlocked, CursorTooOld
    ├── Conflict         right, but not now              MirrorExists, StillBlocked
    ├── NotAllowed       not by this method
    ├── NotAsExpected    a precondition does not hold
    ├── TooLarge         bigger than anything here takes
    ├── TooSlow          the client stalled
    ├── ClientGone       the client left
    ├── NoRoom           the disk or a quota says no     JoiningFull
    ├── Unavailable      try again                       StoreDown, DatabaseDown, BlobMissing, Busy,
    │                                                    MirrorSilent, MirrorWrong, NameUnresolved, NotReady
    └── Refused          soup does not start like this   WrongStore
    """

    def __init__(self, detail: str, *, digest: str | None = None) -> None:
        super().__init__(detail)
        self.digest = digest

    @classmethod
    def slug(cls) -> str:
        """The name programs see: `BlobUnknown` is `blob-unknown`."""
        return re.sub("(?<!^)(?=[A-Z])", "-", cls.__name__).lower()

    @classmethod
    def title(cls) -> str:
        """The name people see: `BlobUnknown` is `Blob unknown`."""
        return cls.slug().replace("-", " ").capitalize()


class Invalid(SoupError):
    """The request cannot be right."""


class BadDigest(Invalid):
    """Not 64 lower-case hex digits."""


class BadRange(Invalid):
    """No such bytes. Carries the size of the blob."""

    def __init__(self, detail: str, *, size: int, digest: str | None = None) -> None:
        super().__init__(detail, digest=digest)
        self.size = size


class BadReport(Invalid):
    """A report that says nothing that can be understood."""


class BadMirror(Invalid):
    """An address no mirror can have."""


class BadBody(Invalid):
    """A body that is not what the request says or needs."""


class DigestMismatch(Invalid):
    """The bytes have another name than the one they were sent under."""


class LengthRequired(Invalid):
    """A body without a length and without chunks."""


class BodyRefused(Invalid):
    """A body in a form that is not raw bytes."""


class HeaderTooLarge(Invalid):
    """A header field longer than anything here reads."""


class Unauthenticated(SoupError):
    """No token, or none we know."""


class Denied(SoupError):
    """A good token that may not do this."""


class MirrorBarred(Denied):
    """An administrator has thrown a mirror at this address out for good."""


class JoiningOff(Denied):
    """No mirror may join."""


class AddressRefused(Denied):
    """An address that no mirror which joins by itself may have."""


class NotFound(SoupError):
    """No such thing."""


class BlobUnknown(NotFound):
    """No blob of this digest is here."""


class MirrorUnknown(NotFound):
    """No mirror has this id."""


class TokenUnknown(NotFound):
    """No token has this id."""


class Gone(SoupError):
    """Was here, and will not be again."""


class BlobBlocked(Gone):
    """A blob an administrator has blocked."""


class CursorTooOld(Gone):
    """What happened since this cursor is forgotten: list what is here, and follow from that list's head."""


class Conflict(SoupError):
    """Right, but not now."""


class MirrorExists(Conflict):
    """Another mirror has this address."""


class StillBlocked(Conflict):
    """A blocked blob is not deleted: its block would go with it."""


class NotAllowed(SoupError):
    """A method that this does not know. Carries those it knows."""

    def __init__(self, detail: str, *, allow: str, digest: str | None = None) -> None:
        super().__init__(detail, digest=digest)
        self.allow = allow


class NotAsExpected(SoupError):
    """A precondition of the request does not hold."""


class TooLarge(SoupError):
    """Bigger than anything here takes."""


class TooSlow(SoupError):
    """The client sent nothing for too long."""


class ClientGone(SoupError):
    """The client left before its body was whole."""


class NoRoom(SoupError):
    """The disk or a quota says no."""


class JoiningFull(NoRoom):
    """As many mirrors have joined as may."""


class Unavailable(SoupError):
    """Try again. `retry_after` is in seconds."""

    retry_after = 1

    def __init__(self, detail: str, *, digest: str | None = None, retry_after: int | None = None) -> None:
        super().__init__(detail, digest=digest)
        if retry_after is not None:
            self.retry_after = retry_after


class StoreDown(Unavailable):
    """A store does not answer, or answers nonsense."""


class DatabaseDown(Unavailable):
    """The database does not answer."""


class BlobMissing(Unavailable):
    """The database knows it, and its bytes are not where they should be."""

    retry_after = 30


class Busy(Unavailable):
    """Every place is taken."""


class MirrorSilent(Unavailable):
    """A mirror does not answer."""


class MirrorWrong(Unavailable):
    """A mirror answers with something else than the blob it was asked for."""


class NameUnresolved(Unavailable):
    """A name has no address, as far as can be seen now."""

    retry_after = 5


class NotReady(Unavailable):
    """Soup has started and waits for what it needs."""


class Refused(SoupError):
    """Soup does not start like this; the text says what to do."""


class WrongStore(Refused):
    """The folder is not the one the database knows (D15)."""
