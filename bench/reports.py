"""`make bench-reports`: a thousand reports a second to one worker on PostgreSQL, while redirects go on.

soup and PostgreSQL share the first core, both loads the second. Redirects are counted alone and beside the
reports, in turns; their ratio is what reports cost. PostgreSQL is one of our own without fsync, which ten
commits a second would hardly notice; `--database` for another, which has to be empty.
"""

import argparse
import contextlib
import hashlib
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import psycopg

from bench.load import load
from bench.machine import LOAD_CORE, SERVER_CORE
from bench.servers import free_port, started
from soup.prepare import prepare
from soup.settings import Settings
from tests.databases import cluster

BLOBS = 100_000
PAUSE = 100  # ms between two reports on one connection

REPORTS = """
local tokens, number, total, failed = {{}}, 0, 0, 0
for line in io.lines("{file}") do tokens[#tokens + 1] = line end
request = function()
  number = number % #tokens + 1
  total = total + 1
  local body = string.format('{{"status": 1, "message": null, "leaving": false, "epoch": "{epoch}",' ..
    '"synced_to": {head}, "lacking": [],' ..
    '"holds": {{"smallest": null, "largest": null}},' ..
    '"agent": "soup-cdn-agent/0.1.0", ' ..
    '"disk": {{"free": 1000000000, "total": 9000000000}}, "boot_id": "b%d",' ..
    '"totals": {{"bytes": %d, "requests": %d}}}}', number, total * 1000, total)
  local headers = {{["Content-Type"] = "application/json", ["Authorization"] = "Bearer " .. tokens[number]}}
  return wrk.format("PATCH", "/api/cdn/" .. number, headers, body)
end
delay = function() return {pause} end
response = function(status) if status ~= 200 then failed = failed + 1; print("failed " .. status) end end
"""


def main() -> None:
    """Print a line a figure."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--mirrors", type=int, default=1000)
    arguments.add_argument("--connections", type=int, default=1000, help="of those that report")
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--seconds", type=int, default=8, help="a round of each")
    arguments.add_argument("--database", default="", help="URL of an empty database")
    given = arguments.parse_args()
    for name in ("wrk", "taskset"):
        if not shutil.which(name):
            sys.exit(f"{name} is missing: tests/setup-system wrk")
    with tempfile.TemporaryDirectory(prefix="soup-bench-") as name, _database(given.database) as database:
        folder = Path(name)
        settings = {"SOUP_DATA": str(folder / "data"), "SOUP_DATABASE": database, "SOUP_SERVER__WORKERS": "1"}
        digests, tokens, epoch = _seed(settings, database, given.mirrors)
        (folder / "tokens").write_text("\n".join(tokens))
        script = REPORTS.format(file=folder / "tokens", epoch=epoch, head=BLOBS, pause=PAUSE)
        (folder / "reports.lua").write_text(script)
        hits, port = load(folder / "hits", digests), free_port()
        command = [sys.executable, "-m", "soup", "serve"]
        with started(command, port, SOUP_SERVER__PORT=str(port), SOUP_CDN__AUDIT="off", **settings):
            _rounds(f"http://127.0.0.1:{port}", hits, folder / "reports.lua", given)


def _rounds(url: str, hits: Path, reports: Path, given: argparse.Namespace) -> None:
    quiet = list[float]()
    alone, beside, heard, cost, failed = list[float](), list[float](), list[float](), list[float](), 0
    _wrk(url, reports, given.connections, 4)  # the first use of each token is written down
    for _ in range(given.rounds):
        alone.append(_wrk(url, hits, 32, given.seconds)[0])
        found: list[tuple[float, int]] = []
        load = threading.Thread(
            target=lambda found=found: found.append(_wrk(url, reports, given.connections, given.seconds))
        )
        load.start()
        beside.append(_wrk(url, hits, 32, given.seconds)[0])
        load.join()
        heard.append(found[0][0])
        failed += found[0][1]
        before = _cpu()
        rate, _ = _wrk(url, reports, given.connections, given.seconds)
        quiet.append(rate)
        cost.append((_cpu() - before) / (rate * given.seconds))
    print(f"reports.alone {statistics.median(quiet):.0f}/s without redirects")
    print(f"reports.rate {statistics.median(heard):.0f}/s of {given.mirrors} mirrors, {failed} failed")
    both, one = statistics.median(beside), statistics.median(alone)
    print(f"reports.redirects {both:.0f}/s beside them, {one:.0f}/s alone")
    print(
        f"reports.cost {1000 * statistics.median(cost):.2f} ms of the core each, PostgreSQL's share included"
    )
    ratio = statistics.median(with_them / without for with_them, without in zip(beside, alone, strict=True))
    print(f"ratio reports.redirects {ratio:.2f}")


def _cpu() -> float:
    """Seconds of all cores that soup and PostgreSQL have used."""
    parents, used = dict[int, int](), dict[int, float]()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            name, _, rest = stat.read_text().rpartition(")")
            fields = rest.split()
            if not name.endswith("(wrk"):
                parents[int(stat.parent.name)] = int(fields[1])
                used[int(stat.parent.name)] = sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")

    def ours(pid: int) -> bool:
        while pid in parents:
            pid = parents[pid]
            if pid == os.getpid():
                return True
        return False

    return sum(seconds for pid, seconds in used.items() if ours(pid))


@contextlib.contextmanager
def _database(url: str) -> Iterator[str]:
    if url:
        yield url
        return
    with cluster(free_port()) as postgres:
        with psycopg.connect(postgres.url("postgres"), autocommit=True) as connection:
            connection.execute("create database soup")
        pid = (postgres.folder / "data/postmaster.pid").read_text().split()[0]
        pin = ["taskset", "-apc", SERVER_CORE, pid]
        subprocess.run(pin, check=True, stdout=subprocess.DEVNULL)  # what it starts from now on as well
        yield postgres.url("soup")


def _seed(settings: dict[str, str], database: str, mirrors: int) -> tuple[list[str], list[str], str]:
    """Blobs and mirrors: digests, a token for each mirror, and the epoch."""
    prepare(Settings.load(settings))
    raws, tokens = [os.urandom(32) for _ in range(BLOBS)], [os.urandom(32).hex() for _ in range(mirrors)]
    with psycopg.connect(database) as connection, connection.cursor() as cursor:
        with cursor.copy("copy blob (digest, size, state, seq, created_at, touched_at) from stdin") as copy:
            for place, raw in enumerate(raws, 1):
                copy.write_row((raw, 4096, 1, place, "2026-01-01Z", "2026-01-01Z"))
        cursor.execute("update feed set head = %s", [BLOBS])
        cursor.executemany(
            "insert into mirror (fqdn, scheme, port, mode, weight, trusted, drained, created_at)"
            " values (%s, 'https', 443, 'full', 1, true, false, now())",
            [(f"mirror-{number}.example",) for number in range(1, mirrors + 1)],
        )
        cursor.executemany(
            "insert into token (kind, mirror_id, hash, created_at) values ('mirror', %s, %s, now())",
            [(number, hashlib.sha256(token.encode()).digest()) for number, token in enumerate(tokens, 1)],
        )
        cursor.execute("select epoch from feed")
        (epoch,) = cursor.fetchone() or ("",)
    return [raw.hex() for raw in raws], tokens, str(epoch)


def _wrk(url: str, script: Path, connections: int, seconds: int) -> tuple[float, int]:
    """Answers a second, and how many were no success."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "-s", str(script), url]
    printed = subprocess.run(
        ["taskset", "-c", LOAD_CORE, *command], check=True, capture_output=True, text=True
    ).stdout
    lines = printed.splitlines()
    rate = float(next(line.split()[1] for line in lines if line.startswith("Requests/sec")))
    return rate, sum(line.startswith("failed") for line in lines) + ("Socket errors" in printed)


if __name__ == "__main__":
    main()
