"""The folder that workers share while they run."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SAY = "import os; from soup.serve.runtime import *\nwith runtime(): print(os.environ[RUNTIME], end='')"


@pytest.mark.parametrize("told", [True, False])
def test_where_it_is(tmp_path: Path, *, told: bool) -> None:
    """
    In memory, where no full disk reaches what processes map; or where TMPDIR says. It goes with the process.
    """
    environment = {name: value for name, value in os.environ.items() if name != "TMPDIR"}
    environment |= {"TMPDIR": str(tmp_path)} if told else {}

    run = subprocess.run(
        [sys.executable, "-c", SAY], env=environment, capture_output=True, text=True, check=True
    )

    assert (tmp_path if told else Path("/dev/shm")) == Path(run.stdout).parent  # noqa: S108 - it is looked for
    assert not Path(run.stdout).exists()
