"""The README is run: its console blocks in one shell, beside a soup of its own."""

import difflib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.conftest import program
from tests.databases import cluster, free_port, programs

README = Path(__file__).parent.parent / "README.md"
ADDRESS = "127.0.0.1:8080"  # of the soup in the README
END = "--- that was all, with status"

SMALL = """
# Small

```sh
rm -rf /nothing/of/this/is/run
```

```console
$ NAME=leek
$ printf '%s\\n' one two \\
>   three
one
two
three
```

```console
$ echo "$NAME at http://127.0.0.1:8080" | tee file
leek at http://127.0.0.1:8080
$ seq 9; echo 'id 8d1f ends'
1
...
9
id ... ends
$ true
```
"""


@dataclass
class Step:
    """A command, what it should print, and the line of the README it stands in."""

    line: int
    command: str
    expected: list[str] = field(default_factory=list)


def steps(text: str) -> Iterator[Step]:
    """The commands of all console blocks."""
    kind, step = None, None
    for number, line in enumerate(text.splitlines(), start=1):
        if line.startswith("```"):
            if step is not None:
                yield step
            kind, step = (line[3:].strip() if kind is None else None), None
        elif kind != "console":
            continue
        elif line.startswith("$ "):
            if step is not None:
                yield step
            step = Step(number, line[2:])
        else:
            assert step is not None, f"README line {number}: output before a command"
            if line.startswith("> ") and step.command.endswith("\\") and not step.expected:
                step.command += f"\n{line[2:]}"
            else:
                step.expected.append(line)


class Shell:
    """One bash for all commands, so that variables and the folder stay."""

    def __init__(self, folder: Path, address: str = ADDRESS, **ports: int) -> None:
        """`p8081=19000`: where the README says port 8081 it is 19000 here."""
        self.elsewhere = {ADDRESS: address} | {name[1:]: str(port) for name, port in ports.items()}
        environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        self.bash = subprocess.Popen(
            [program("bash"), "--norc", "--noprofile"],
            cwd=folder,
            env={**environment, "LC_ALL": "C.UTF-8", "TZ": "UTC", "PS1": ""},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, command: str) -> list[str]:
        """What a command prints, its errors included."""
        assert self.bash.stdin
        assert self.bash.stdout
        asked = command
        for there, here in self.elsewhere.items():
            asked = asked.replace(there, here)
        self.bash.stdin.write(f"{{ {asked}\n}} </dev/null\nprintf '\\n{END} %s\\n' $?\n")
        self.bash.stdin.flush()
        printed: list[str] = []
        for line in self.bash.stdout:
            if line.startswith(END):
                break
            printed.append(self._as_there(line.rstrip("\n")))
        else:
            printed.append("(the shell ended)")
        return printed[:-1] if printed and not printed[-1] else printed

    def _as_there(self, line: str) -> str:
        for there, here in self.elsewhere.items():
            line = line.replace(here, there)
        return line

    def close(self) -> None:
        self.bash.kill()
        self.bash.communicate()


def fits(expected: list[str], printed: list[str]) -> bool:
    """Whether it is what was expected: `...` stands for anything in a line, a line of it for any lines."""
    if not expected:
        return not printed
    if expected[0].strip() == "...":
        return any(fits(expected[1:], printed[start:]) for start in range(len(printed) + 1))
    return bool(printed) and like(expected[0], printed[0]) and fits(expected[1:], printed[1:])


def like(expected: str, printed: str) -> bool:
    parts = map(re.escape, expected.rstrip().split("..."))
    return re.fullmatch(".*".join(parts), printed.rstrip()) is not None


def run(text: str, shell: Shell) -> None:
    """Run every step. AssertionError with line and difference at the first that prints something else."""
    for step in steps(text):
        printed = shell.run(step.command)
        if not fits(step.expected, printed):
            difference = "\n".join(
                difflib.unified_diff(step.expected, printed, "README", "printed", lineterm="")
            )
            raise AssertionError(f"README line {step.line}: $ {step.command}\n{difference}")


@pytest.fixture
def shell(tmp_path):
    shell = Shell(tmp_path)
    yield shell
    shell.close()


def section(title: str) -> str:
    """A section of the README, each line where it stands there."""
    before, found, after = README.read_text().partition(f"\n## {title}\n")
    assert found
    return "\n" * (before.count("\n") + 2) + after.partition("\n## ")[0]


def test_the_tour(serve, tmp_path) -> None:
    """
    A reader who types what stands there sees what stands there.
    """
    server = serve(data=tmp_path / "soup-data")
    shell = Shell(tmp_path, f"127.0.0.1:{server.port}")

    try:
        run(section("A tour"), shell)
    finally:
        shell.close()


@pytest.mark.sqlite
def test_many_cores(tmp_path, monkeypatch) -> None:
    """
    PostgreSQL, two cores and an nginx in front, as the README sets them up: one stops, the other answers.
    """
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{programs()}:{os.environ['PATH']}:/usr/sbin")
    ports = {f"p{port}": free_port() for port in (8080, 8081, 8082)}
    (tmp_path / "nginx").mkdir()
    conf = (README.parent / "nginx" / "front.conf").read_text()
    (tmp_path / "nginx" / "front.conf").write_text(conf.replace("8080", str(ports["p8080"])))
    with cluster(free_port()) as postgres:
        shell = Shell(tmp_path, ADDRESS, p5432=postgres.port, **ports)
        try:
            run(section("Many cores"), shell)
        finally:
            shell.run("kill $(jobs -p) $(cat nginx.pid); wait")
            shell.close()


def test_the_readme_has_a_tour() -> None:
    """
    There is something to run, uploads and downloads among it.
    """
    commands = [step.command for step in steps(README.read_text())]

    assert 5 <= len(commands)
    assert [command for command in commands if "/api/blob" in command]


def test_a_readme_that_is_right(shell, tmp_path) -> None:
    """
    Variables last from block to block, lines go on, `...` stands for what changes, shell blocks are not run.
    """
    run(SMALL, shell)

    assert "leek at http://127.0.0.1:8080\n" == (tmp_path / "file").read_text()
    assert [9, 10, 18, 20, 25] == [step.line for step in steps(SMALL)]


def test_another_address(tmp_path) -> None:
    """
    The soup of the README is wherever this one is, and the output reads as if it were there.
    """
    shell = Shell(tmp_path, "127.0.0.1:9")
    run(SMALL, shell)
    shell.close()

    assert "leek at http://127.0.0.1:9\n" == (tmp_path / "file").read_text()


def wrong(shell: Shell, *lines: str) -> str:
    with pytest.raises(AssertionError) as raised:
        run("\n".join(["# Wrong", "```console", *lines, "```"]), shell)
    return str(raised.value)


def test_a_readme_that_is_wrong(shell) -> None:
    """
    It says in which line, and shows the difference.
    """
    said = wrong(shell, "$ echo leek", "leek", "$ echo one; echo two", "one", "three")

    assert [
        "README line 5: $ echo one; echo two",
        "--- README",
        "+++ printed",
        "@@ -1,2 +1,2 @@",
        " one",
        "-three",
        "+two",
    ] == said.splitlines()


@pytest.mark.parametrize(
    ("lines", "what"),
    [
        (["$ echo leek"], "+leek"),
        (["$ true", "leek"], "-leek"),
        (["$ echo leek >&2", "turnip"], "+leek"),
        (["$ no-such-program"], "command not found"),
        (["$ exit 3", "$ echo leek", "leek"], "+(the shell ended)"),
        (["$ seq 3", "1", "..."], None),
        (["$ seq 3", "...", "2"], "+3"),
        (["$ echo a.c", "abc"], "+a.c"),
        (["$ cat"], None),
        (["$ printf leek", "leek"], None),
    ],
)
def test_what_may_go_wrong(lines, what, shell) -> None:
    """
    Missing and surplus output, errors, programs that are not there, a shell that ends. Nobody types.
    """
    if what is None:
        run("\n".join(["```console", *lines, "```"]), shell)
    else:
        assert what in wrong(shell, *lines)
