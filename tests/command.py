"""The `soup` command, run as anybody would, where it ends by itself."""

import os
import subprocess
import sys
from pathlib import Path

from tests.conftest import program

Ended = subprocess.CompletedProcess[str]


def soup(*arguments: str, cwd: Path, bound: bool = False, **environment: str) -> Ended:
    """Run it. `bound`: permissions of files bind it even when the tests run as root."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("SOUP_")}
    command = [sys.executable, "-m", "soup", *arguments]
    if bound and os.geteuid() == 0:
        command = [program("setpriv"), "--bounding-set", "-dac_override,-dac_read_search", *command]
    return subprocess.run(
        command, cwd=cwd, env=clean | environment, capture_output=True, text=True, timeout=30, check=False
    )


def refusal(ended: Ended) -> str:
    """The one line in which soup said why not. Log lines before it do not count, a trace does."""
    assert 1 == ended.returncode, ended
    said = [line for line in ended.stderr.splitlines() if not line.startswith("{")]
    assert 1 == len(said), ended.stderr
    assert said[0].startswith("soup: "), ended.stderr
    return said[0].removeprefix("soup: ")
