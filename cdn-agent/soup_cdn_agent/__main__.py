"""The command `soup-cdn-agent`."""

import argparse
import asyncio
import json
import os
import signal
import sqlite3
import sys
import traceback
import urllib.request
from collections.abc import Coroutine
from http.client import HTTPException
from pathlib import Path
from typing import Any

from soup_cdn_agent import __version__

WORDS = {1: "ok", 2: "warning", 3: "error"}


def main(arguments: list[str] | None = None) -> int:
    """Run the agent, check its settings, or say how it is."""
    parser = argparse.ArgumentParser(
        "soup-cdn-agent", description="Makes the web server beside it a mirror of soup."
    )
    parser.add_argument("--version", action="version", version=__version__)
    parser.add_argument("--config", type=Path, help="settings in TOML (default: /etc/soup-cdn-agent.toml)")
    verbs = parser.add_subparsers(dest="verb", metavar="verb")
    run = verbs.add_parser("run", help="keep the folder, look after it and report (the default)")
    run.add_argument("--beside", metavar="COMMAND", help="start this web server, and end with it")
    verbs.add_parser("check", help="say every fault of the settings at once")
    status = verbs.add_parser("status", help="how the agent on this machine is")
    status.add_argument("--json", action="store_true", help="for programs")
    given = parser.parse_args(arguments)

    if given.verb in {None, "run"}:
        for name in (signal.SIGTERM, signal.SIGINT):  # for a container's first process the default is nothing
            signal.signal(name, lambda *_: os._exit(0))
    from soup_cdn_agent.settings import Refused, Settings  # noqa: PLC0415 - `--help` need not wait for pydantic

    try:
        settings = Settings.load(given.config, getattr(given, "beside", None))
        # One that cannot be read is a fault of the settings; but who has joined wants that file no more.
        if given.verb == "check" or (given.verb != "status" and settings.join_token_file is None):
            _ = settings.secret
    except (Refused, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    if given.verb == "check":
        print("the settings are good")
        return 0
    if given.verb == "status":
        return _status(settings.listen, as_json=given.json)

    from soup_cdn_agent import agent, logs  # noqa: PLC0415

    logs.begin(settings.log_format, settings.log_level)
    asyncio.run(_be(agent.run(settings)))
    return 0


async def _be(agent: Coroutine[Any, Any, int]) -> None:
    """End with the agent, and at once: no thread is waited for that hangs in DNS or on a disk."""
    try:
        code = await agent
    except (OSError, sqlite3.Error) as error:
        print(f"soup-cdn-agent: {error}", file=sys.stderr)
        code = 1
    except Exception:  # noqa: BLE001 - the last there is
        traceback.print_exc()
        code = 1
    sys.stderr.flush()
    os._exit(code)


def _status(listen: str, *, as_json: bool) -> int:
    """Print it; 0 where all is well, 1 where not, 3 where no agent answers."""
    if not listen:
        print("the agent listens nowhere: `listen` is empty", file=sys.stderr)
        return 3
    try:
        with urllib.request.urlopen(f"http://{listen}/status", timeout=5) as answer:
            status = json.load(answer)
    except (OSError, ValueError, HTTPException) as error:
        print(f"no agent answers at {listen}: {error}", file=sys.stderr)
        return 3
    print(json.dumps(status) if as_json else "\n".join(_lines(status)))
    return 0 if status["status"] == 1 and not status["refused"] else 1


def _lines(status: dict[str, Any]) -> list[str]:
    metrics = status["metrics"]
    age = metrics["reported_seconds"]
    said = f"{status['status']} {WORDS[status['status']]}"
    lines = {
        "status": f"{said}: {status['message']}" if status["message"] else said,
        "mirror": _mirror(status["mirror"]),
        "last report": "none yet" if age is None else f"{age:.0f} s ago",
        "refused": status["refused"],
        "feed": f"{metrics['feed_cursor']} of {metrics['feed_head']}",
        "answers for": "whatever is asked for"
        if status["mode"] == "pull"
        else f"up to {metrics['synced_to']}, but for {status['lacking']}",
        "blobs": f"{metrics['blobs'] - metrics['blobs_wanted']} of {metrics['blobs']}",
        "delivered": f"{_size(metrics['delivered_bytes_total'])}"
        f" in {metrics['delivered_requests_total']} requests",
        "access log": status["access_log"],
        "disk": None
        if metrics["disk_total_bytes"] is None
        else f"{_size(metrics['disk_free_bytes'])} free of {_size(metrics['disk_total_bytes'])}",
    }
    return [f"{name + ':':<13}{text}" for name, text in lines.items() if text]


def _mirror(mirror: dict[str, Any]) -> Any:
    """As what it has joined, and what speaks against it. None of one that was added."""
    if mirror["joined_as"] is None:
        return mirror["fault"]
    joined = f"{mirror['id']}, joined as {mirror['joined_as']}"
    return f"{joined}: {mirror['fault']}" if mirror["fault"] else joined


def _size(count: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:  # noqa: PLR2004 - of these units
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


if __name__ == "__main__":
    sys.exit(main())
