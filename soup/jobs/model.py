"""Runs of jobs."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Run:
    """One run: `result` is how much it did, in words, or why it failed."""

    name: str
    started_at: datetime
    seconds: float
    holder: str
    result: str

    @property
    def failed(self) -> bool:
        """Whether it came to nothing."""
        return self.result.startswith("failed")
