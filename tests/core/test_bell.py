"""A bell that every process of one machine hears."""

import subprocess
import sys
from pathlib import Path

from soup.core.bell import Bell

RINGER = """
import sys
from pathlib import Path
from soup.core.bell import Bell
bell = Bell(Path(sys.argv[1]))
for line in sys.stdin:
    if line.strip() == "ring":
        bell.ring()
    print(bell.rung, flush=True)
"""


def test_two_processes(tmp_path: Path) -> None:
    """
    What one process rings, the other hears at once, both ways.
    """
    bell = Bell(tmp_path)
    with subprocess.Popen(
        [sys.executable, "-c", RINGER, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdin
        assert other.stdout

        def say(word: str) -> int:
            print(word, file=other.stdin, flush=True)
            return int(other.stdout.readline())  # type: ignore[union-attr]

        before = bell.rung
        assert before == say("listen")

        theirs = say("ring")
        assert theirs == bell.rung != before

        bell.ring()
        assert bell.rung == say("listen") != theirs
        other.stdin.close()
    bell.close()


def test_every_ring_is_another_number() -> None:
    """
    Whoever remembers the last number sees that it rang, and a bell that never rang says 0.
    """
    bell = Bell()
    heard = [bell.rung]
    for _ in range(1000):
        bell.ring()
        heard.append(bell.rung)
    bell.close()

    assert 0 == heard[0]
    assert len(heard) == len(set(heard))


def test_one_process_and_no_folder() -> None:
    """
    Without a folder a bell rings inside one process, and two of them do not hear each other.
    """
    one, two = Bell(), Bell()

    one.ring()

    assert one.rung
    assert 0 == two.rung
    one.close()
    two.close()


def test_a_bell_by_name(tmp_path: Path) -> None:
    """
    Bells of different names in one folder are different bells; their file is this user's alone.
    """
    one, two, again = Bell(tmp_path, "one"), Bell(tmp_path, "two"), Bell(tmp_path, "one")

    one.ring()

    assert one.rung == again.rung != two.rung
    assert 0o600 == (tmp_path / "one").stat().st_mode & 0o777
    for bell in (one, two, again):
        bell.close()
