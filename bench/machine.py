"""The machine, its programs and its own rates: without them no figure can be compared with another's."""

import hashlib
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from pathlib import Path
from typing import Any

from tests.databases import programs

LOOP = 2_000_000


def cores() -> tuple[str, str]:
    """The servers' core and the load's, of those that this process may use."""
    allowed = sorted(os.sched_getaffinity(0))
    return str(allowed[0]), str(allowed[1] if len(allowed) > 1 else allowed[0])


SERVER_CORE, LOAD_CORE = cores()
CORES = len(os.sched_getaffinity(0))
SECOND_CORE = str(sorted(os.sched_getaffinity(0))[2]) if len({SERVER_CORE, LOAD_CORE}) < CORES else LOAD_CORE


def needed(*names: str) -> None:
    """End here where a program is missing."""
    if SERVER_CORE == LOAD_CORE:
        sys.exit("two cores are wanted: one for the servers, one for the load")
    for name in names:
        if not shutil.which(name):
            sys.exit(f"{name} is missing: tests/setup-system {name}")


def settle() -> None:
    """Have this process, and what it starts as a load, on the load's core; ended, it ends what it started."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    os.sched_setaffinity(0, {int(LOAD_CORE)})


def build() -> str:
    """How this Python was built."""
    flags = sysconfig.get_config_var("CONFIG_ARGS") or ""
    return " and ".join(
        f"{'with' if option in flags else 'without'} {what}"
        for option, what in (("--enable-optimizations", "PGO"), ("--with-lto", "LTO"))
    )


def described(folder: Path) -> dict[str, Any]:
    """Versions, and rates of the core and of the disk that `folder` is on."""
    return {
        "cpu": _cpu(),
        "cores": CORES,
        "system": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_version()}, {build()}",
        "nginx": _version(["nginx", "-v"]),
        "postgresql": _version([str(programs() / "postgres"), "--version"]),
        "wrk": _version(["wrk", "-v"]),
        "curl": _version(["curl", "--version"]),
        "docker-registry": _version(["docker-registry", "--version"]),
        "loop_per_second": round(max(_loop() for _ in range(3))),
        "sha256_gb_per_second": round(max(_sha256() for _ in range(3)), 2),
        "fsync_per_second": round(_fsync(folder)),
    }


def _cpu() -> str:
    found = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1] if found else platform.machine()


def _version(command: list[str]) -> str:
    if not shutil.which(command[0]):
        return "missing"
    told = subprocess.run(command, capture_output=True, text=True, check=False)
    found = re.search(r"\d+(\.\d+)+", told.stdout + told.stderr)
    return found[0] if found else "unknown"


def _loop() -> float:
    """Turns a second of a loop in plain Python."""
    began, total = time.perf_counter(), 0
    for number in range(LOOP):
        total += number & 7
    return LOOP / (time.perf_counter() - began)


def _sha256() -> float:
    """GB a second."""
    block = bytes(1 << 28)
    began = time.perf_counter()
    hashlib.sha256(block).digest()
    return len(block) / (time.perf_counter() - began) / 1e9


def _fsync(folder: Path) -> float:
    """Durable writes a second of 4 KiB at the end of a file, one after the other."""
    file, times = folder / "fsync", 200
    handle = os.open(file, os.O_WRONLY | os.O_CREAT)
    try:
        began = time.perf_counter()
        for _ in range(times):
            os.write(handle, bytes(4096))
            os.fsync(handle)
        return times / (time.perf_counter() - began)
    finally:
        os.close(handle)
        file.unlink()


def others(seconds: float = 1.0) -> float:
    """How many cores others use at the moment: above 0.1 the machine is not quiet."""
    before = _used()
    time.sleep(seconds)
    return round((_used() - before) / seconds / os.sysconf("SC_CLK_TCK"), 2)


def _used() -> int:
    fields = [int(field) for field in Path("/proc/stat").read_text().splitlines()[0].split()[1:]]
    return sum(fields[:3]) + sum(fields[5:8])  # all but idle and waiting for disks
