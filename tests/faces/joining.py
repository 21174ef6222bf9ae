"""Asking to join, as a mirror does."""

from pathlib import Path
from typing import Any

import httpx

from soup import metrics
from tests.conftest import Kitchen, bearer

SECRET = "leek-and-potato-and-onion"  # noqa: S105 - of a test


def secret_in(folder: Path) -> Path:
    """A file with the secret by which mirrors join."""
    file = folder / "secret"
    file.write_text(f"{SECRET}\n")
    return file


async def join(kitchen: Kitchen, fqdn: str = "a.example", token: str = SECRET, **more: Any) -> httpx.Response:
    return await kitchen.anyone.post("/api/cdn:join", json={"fqdn": fqdn, **more}, headers=bearer(token))


async def joined(kitchen: Kitchen, fqdn: str = "a.example", **more: Any) -> dict[str, Any]:
    answer = await join(kitchen, fqdn, **more)
    assert answer.status_code in {200, 201}, answer.text
    return dict(answer.json())


async def reports(kitchen: Kitchen, id: int, token: str) -> int:
    return (await kitchen.anyone.patch(f"/api/cdn/{id}?status=1", headers=bearer(token))).status_code


def count(result: str) -> float:
    return float(metrics.JOINS.labels(result)._value.get())


def adopt(kitchen: Kitchen, **join: Any) -> None:
    """Take other settings, as after a reload."""
    changed = kitchen.settings.cdn.join.model_copy(update=join)
    cdn = kitchen.settings.cdn.model_copy(update={"join": changed})
    kitchen.soup.adopt(kitchen.settings.model_copy(update={"cdn": cdn}))
