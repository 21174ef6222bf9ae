"""Downloads by the clients that people use."""

import hashlib
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import program


@dataclass(frozen=True)
class Got:
    """What a client got: its exit status, and the bytes; and what it said about that."""

    code: int
    data: bytes
    seconds: float
    said: str = ""

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.data).hexdigest()


def curl(url: str, *words: object) -> Got:
    """What curl gets, following redirects."""
    began = time.monotonic()
    command = [program("curl"), "-sL", "--max-time", "30", *map(str, words), url]
    run = subprocess.run(command, capture_output=True, check=False)
    return Got(run.returncode, run.stdout, time.monotonic() - began, run.stderr.decode())


def aria2c(url: str, folder: Path, *words: object) -> Got:
    """What aria2c gets, which knows other mirrors. What it writes is in a folder that is gone afterwards."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(dir=folder) as place:
        command = [program("aria2c"), "-q", "--no-conf", "-s4", "-k1M", *map(str, words)]
        run = subprocess.run([*command, "-d", place, "-o", "got", url], capture_output=True, check=False)
        file = Path(place) / "got"
        data = file.read_bytes() if file.exists() else b""
    return Got(run.returncode, data, time.monotonic() - began, run.stdout.decode())
