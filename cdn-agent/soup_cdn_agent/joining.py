"""Joining: a mirror that nobody has added asks a core for an id and a token, and keeps what it was given."""

import asyncio
import json
import os
import random
import socket
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import structlog

from soup_cdn_agent.core import Core, CoreDown, Refused
from soup_cdn_agent.who import Shown

log = structlog.get_logger(__name__)

FILE = "joined.json"
SECONDS = 15.0  # for an answer: the core looks the mirror's name up meanwhile
AGAIN = 0.5, 5.0  # seconds until it is tried again: first, and at most
REFUSED = 30.0  # the same for who was refused: somebody has to change something first
LEFT_ALONE = 30.0  # seconds that a core may ask for at most
TRUSTED = 3.0, 60.0  # seconds in which a core need not know a mirror that has just joined: first, and at most
LOUD = 20  # failures for one reason for which one line is enough
PORTS = {"https": 443, "http": 80}


@dataclass(frozen=True, slots=True)
class Terms:
    """What a mirror joins as. Without `fqdn` it is the address by which this machine reaches the core."""

    fqdn: str
    scheme: str
    port: int | None
    mode: str

    @property
    def url(self) -> str:
        """The mirror as clients will be sent to it."""
        return f"{self.scheme}://{self.fqdn}{f':{self.port}' if self.port else ''}"

    @property
    def asked(self) -> dict[str, Any]:
        """As the core wants it; a port that is not given is the scheme's own."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True, slots=True)
class Mirror:
    """What a core has given."""

    id: int
    token: str
    terms: Terms


class Joining:
    """The mirror that this agent is, since a core has said so. No core knows it any more: it joins again.

    Until then it goes on as the one it was, for a core may be wrong for a while.
    """

    def __init__(
        self, cores: Sequence[str], terms: Terms, secret: Callable[[], str], folder: Path
    ) -> None:  # fmt: skip
        self._cores, self._terms, self._secret, self._folder = sorted(cores), terms, secret, folder
        self._mirror: Mirror | None = None
        self._before = self._read()
        self._sought, self._found = asyncio.Event(), asyncio.Event()
        self._sought.set()
        self._trusted_until, self._vain, self._failures = 0.0, 0, 0
        self._fault: str | None = "it has not joined yet"
        self._joins = self._failed = 0

    @property
    def id(self) -> int:
        """Raises CoreDown before it has joined."""
        return self._now.id

    @property
    def token(self) -> str:
        """Raises CoreDown before it has joined."""
        return self._now.token

    @property
    def _now(self) -> Mirror:
        if self._mirror is None:
            raise CoreDown(self._fault or "")
        return self._mirror

    @property
    def shown(self) -> Shown:
        """Whether it has joined, as what, and what speaks against it."""
        id, url = (self._mirror.id, self._mirror.terms.url) if self._mirror else (None, None)
        return Shown(id, url, self._fault, int(self._fault is None), self._joins, self._failed)

    async def found(self) -> None:
        """Wait until there is an id and a token."""
        await self._found.wait()

    def known(self) -> None:
        """A core has heard a report: whatever made us doubt is over."""
        self._sought.clear()
        self._vain, self._fault = 0, None

    def unknown(self, reason: str) -> bool:
        """No core knows this mirror, or its token: join again, soon. Who has just joined is given time."""
        if not self._sought.is_set() and _time() >= self._trusted_until:
            log.error("mirror.unknown", reason=reason)
            self._before, self._failures, self._fault = None, 0, reason
            self._sought.set()
        return True

    async def run(self, core: Core) -> None:
        """Join, and whenever it has to be once more, for ever."""
        while True:
            await self._sought.wait()
            await asyncio.sleep(await self._seek(core))

    async def _seek(self, core: Core) -> float:
        """Try once; for how many seconds to wait after that."""
        try:
            async with asyncio.timeout(SECONDS):
                terms = await asyncio.to_thread(self._resolved)
            if self._before is not None and self._before.terms == terms:
                return self._is(self._before)
            secret = await asyncio.to_thread(self._read_secret)
            mirror = Mirror(*await core.join(terms.asked, secret, SECONDS), terms)
        except TimeoutError:
            return self._again("the name of the core is not resolved in time")
        except (OSError, ValueError) as error:
            return self._again(str(error))
        except CoreDown as error:
            return max(min(error.after, LEFT_ALONE), self._again(str(error)))
        except Refused as error:
            self._again(str(error), loud=True)
            return REFUSED * random.uniform(0.5, 1)  # noqa: S311 - many agents at once
        self._joins += 1
        try:
            await asyncio.to_thread(self._keep, mirror)
        except OSError as error:  # then it joins again at its next start
            log.error("join.not_kept", reason=str(error))  # noqa: TRY400 - it says all
        self._trusted_until = _time() + min(TRUSTED[0] * 2 ** min(self._vain, 10), TRUSTED[1])
        self._vain += 1
        return self._is(mirror)

    def _is(self, mirror: Mirror) -> float:
        self._mirror, self._fault, self._failures = mirror, None, 0
        log.info("joined", id=mirror.id, url=mirror.terms.url, mode=mirror.terms.mode, before=not self._joins)
        self._sought.clear()
        self._found.set()
        return 0.0

    def _again(self, reason: str, *, loud: bool = False) -> float:
        fault = f"it cannot join: {reason}"
        if loud or fault != self._fault or self._failures % LOUD == 0:
            log.error("join.refused" if loud else "join.failed", reason=reason, times=self._failures + 1)
        self._failures, self._failed, self._fault = self._failures + 1, self._failed + 1, fault
        pause: float = min(AGAIN[0] * 2 ** min(self._failures - 1, 8), AGAIN[1])
        return pause * random.uniform(0.5, 1)  # noqa: S311 - many agents at once

    def _resolved(self) -> Terms:
        terms = self._terms
        return Terms(terms.fqdn or own_address(self._cores), terms.scheme, terms.port, terms.mode)

    def _read_secret(self) -> str:
        try:
            secret = self._secret()
        except (OSError, ValueError) as error:
            raise ValueError(f"the join token cannot be read: {error}") from error
        if not secret:
            raise ValueError("the join token is empty")
        return secret

    def _read(self) -> Mirror | None:
        """What was given at an earlier start, to the same question. What cannot be read was never given."""
        try:
            kept = json.loads((self._folder / FILE).read_bytes())
            if kept.pop("core") != self._cores:
                return None
            return Mirror(int(kept.pop("id")), str(kept.pop("token")), Terms(**kept))
        except (OSError, ValueError, TypeError, LookupError, AttributeError):
            return None

    def _keep(self, mirror: Mirror) -> None:
        kept = {"core": self._cores, "id": mirror.id, "token": mirror.token, **asdict(mirror.terms)}
        new = self._folder / f"{FILE}.new"
        fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with open(fd, "w", encoding="utf-8") as file:  # noqa: PTH123 - it is open already
            json.dump(kept, file)
            file.flush()
            os.fsync(fd)
        new.rename(self._folder / FILE)
        folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def own_address(cores: Sequence[str]) -> str:
    """The address by which this machine reaches a core, as it stands in a URL; nothing is sent.

    Raises OSError, ValueError.
    """
    faults = []
    for core in cores:
        url = urlsplit(core)
        try:
            port = url.port or PORTS[url.scheme]
            places = socket.getaddrinfo(url.hostname, port, type=socket.SOCK_DGRAM)
        except OSError as error:
            faults.append(f"{core}: {error.strerror or error}")
            continue
        for family, kind, _, _, where in places:
            try:
                with socket.socket(family, kind) as asked:
                    asked.connect(where)
                    address = str(asked.getsockname()[0]).partition("%")[0]
            except OSError as error:
                faults.append(f"{core}: {error.strerror or error}")
            else:
                return f"[{address}]" if ":" in address else address
    raise OSError("; ".join(faults))


def _time() -> float:
    return asyncio.get_running_loop().time()
