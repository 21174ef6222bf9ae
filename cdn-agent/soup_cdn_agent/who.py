"""As which mirror the agent speaks: one that an administrator added, or, in `joining`, one that joined."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Shown:
    """A mirror without its token. What is None is not known, or not asked of one that was added."""

    id: int | None
    url: str | None = None
    fault: str | None = None
    joined: int | None = None
    joins: int | None = None
    failed: int | None = None


class Who(Protocol):
    """A mirror's id and token, each as it is at the moment of asking."""

    @property
    def shown(self) -> "Shown":
        """What the person at the machine may know of it."""

    @property
    def id(self) -> int:
        """Raises CoreDown while there is none."""

    @property
    def token(self) -> str:
        """Raises CoreDown while there is none; OSError, ValueError where it cannot be read."""

    async def found(self) -> None:
        """Wait until there is an id and a token."""

    def known(self) -> None:
        """A core has heard a report of this mirror."""

    def unknown(self, reason: str) -> bool:
        """A core knows no such mirror or token. Whether another is sought, so that asking again is right."""


class Added:
    """A mirror that was added: its id and token are settings, and a core that refuses them has to be told."""

    def __init__(self, id: int, token: Callable[[], str]) -> None:
        self.id, self.shown, self._token = id, Shown(id), token

    @property
    def token(self) -> str:
        """Read anew each time: a file may have another one by now. Raises OSError, ValueError."""
        return self._token()

    async def found(self) -> None:
        """They are here from the beginning."""

    def known(self) -> None:
        """It is what was expected."""

    def unknown(self, reason: str) -> bool:  # noqa: ARG002 - Who has it
        """No other is sought."""
        return False
