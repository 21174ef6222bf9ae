"""How the face behaves."""

from dataclasses import dataclass, fields


@dataclass(slots=True)
class Manners:
    """What the face is told by the settings, under the settings' names.

    There is one of them, and all parts of the face look at it with each request: see `become`.
    """

    redirects: bool = True
    closed: bool = False
    direct_slots: int = 256
    serve_idle: float = 60
    sync_slots: int = 32
    alternates: int = 2
    upload_slots: int = 256
    upload_idle: float = 30
    accel: bool = False
    report_seconds: float = 30
    public_list: bool = False
    url: str = ""
    log_requests: bool = False

    def become(self, other: "Manners") -> None:
        """Behave as `other` from the next request on."""
        for field in fields(self):
            setattr(self, field.name, getattr(other, field.name))
