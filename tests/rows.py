"""Which test keeps which promise: `make rows`.

docs/promises.md says what soup promises; `@pytest.mark.row("S7")` on a test, a class or a module says which
promise is kept there. pytest itself collects the marks, so whatever it runs counts, inherited tests too.
"""

import contextlib
import io
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

PAGE = Path("docs/promises.md")
TESTS = Path("tests")
HEAD = ("| id | promise | state |", "|---|---|---|")
ROW = re.compile(r"\| ([A-Z]+[0-9]+[a-z]?) \| (\S.*\S) \| (kept|partly|later) \|")

Marks = list[tuple[str, str]]  # an id, and the test that is marked with it


@dataclass(frozen=True, slots=True)
class Promise:
    id: str
    text: str
    state: str


class Collector:
    """A pytest plugin that writes down the marks of all tests; "?" for a mark that names nothing."""

    def __init__(self) -> None:
        self.marks: Marks = []

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        for item in session.items:
            test = item.nodeid.partition("[")[0]
            for mark in item.iter_markers("row"):
                self.marks += [(str(id), test) for id in mark.args or "?"]


def collect(folder: Path) -> Marks:
    """The marks in a folder. Where tests cannot be collected, the program ends with pytest's own words."""
    collector, said = Collector(), io.StringIO()
    with contextlib.redirect_stdout(said):
        code = pytest.main(["--collect-only", "--quiet", "--capture=no", str(folder)], plugins=[collector])
    if code:
        sys.exit(said.getvalue())
    return list(dict.fromkeys(collector.marks))  # a parametrised test counts once


def read(page: str) -> tuple[list[Promise], list[str]]:
    """The promises of a page, and the rows that are none."""
    promises, strange = [], []
    for line in page.splitlines():
        if match := ROW.fullmatch(line):
            promises.append(Promise(*match.groups()))
        elif line.startswith("|") and line not in HEAD:
            strange.append(line)
    return promises, strange


def faults(page: str, marks: Marks) -> Iterator[str]:
    """Everything in which a page and the tests disagree."""
    promises, strange = read(page)
    ids = [promise.id for promise in promises]
    tested = {id for id, _ in marks}
    for row in strange:
        yield f"not a row: {row}"
    for id in dict.fromkeys(ids):
        if ids.count(id) > 1:
            yield f"{id} stands in the table {ids.count(id)} times"
    for promise in promises:
        if promise.state == "kept" and promise.id not in tested:
            yield f"{promise.id} is marked kept and has no test"
    for id, test in marks:
        if id not in ids:
            yield f"{test} is marked with {id}, which is no promise"


def main(page: Path = PAGE, folder: Path = TESTS) -> int:
    """Print promise -> tests, then what is wrong."""
    text, marks = page.read_text(), collect(folder)
    for promise in read(text)[0]:
        print(f"{promise.id:4} {promise.state:6} {promise.text}")
        for test in (test for id, test in marks if id == promise.id):
            print(f"{'':11} {test}")
    wrong = list(faults(text, marks))
    for fault in wrong:
        print(fault, file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(*map(Path, sys.argv[1:])))
