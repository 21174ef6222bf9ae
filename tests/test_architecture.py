"""Rules of the house that are not left to memory."""

import ast
import re
import subprocess
import sys
from pathlib import Path

from soup.settings import settings

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
ROUTES = {"get", "post", "put", "patch", "delete", "route"}


def test_floors() -> None:
    """
    Rooms import what lies below them and nothing else: the contracts in pyproject.toml.
    """
    command = [Path(sys.executable).with_name("lint-imports"), "--no-logo", "--no-cache"]
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    assert 0 == answer.returncode, answer.stdout


def test_files_are_short() -> None:
    """
    A file of more than 400 lines is two files.
    """
    files = [
        file for folder in ("soup", "cdn-agent", "tests", "bench") for file in (ROOT / folder).rglob("*.py")
    ]

    assert [] == [file for file in files if len(file.read_text().splitlines()) > 400]


def _called(decorator: ast.expr) -> str:
    return (
        decorator.func.id if isinstance(decorator, ast.Call) and isinstance(decorator.func, ast.Name) else ""
    )


def test_handlers_do_not_try() -> None:
    """
    Handlers let errors through: one table in faces/errors.py answers them.
    """
    handlers = [
        (file, node)
        for file in (ROOT / "soup/faces").glob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.AsyncFunctionDef) and ROUTES & {_called(one) for one in node.decorator_list}
    ]
    tries = [
        f"{file.name}:{node.lineno}"
        for file, handler in handlers
        for node in ast.walk(handler)
        if isinstance(node, ast.Try | ast.TryStar)
    ]

    assert handlers
    assert [] == tries


def test_every_setting_is_in_the_readme() -> None:
    """
    A setting nobody can find does not exist.
    """
    readme = README.read_text()

    assert [] == [path for path in settings() if f"`{path}`" not in readme]


async def test_every_route_is_in_the_readme(kitchen) -> None:
    """
    A request nobody can find is not sent.
    """
    readme = README.read_text()
    paths = kitchen.soup.face.framework.openapi_schema.to_schema()["paths"]

    assert "/{digest}" in paths
    assert [] == [path for path in paths if not re.search(rf"`([A-Z|]+ )?{re.escape(path)}[?`]", readme)]


def test_the_agent_stands_alone() -> None:
    """
    It imports what it asks for in its own pyproject.toml, and nothing of soup.
    """
    allowed = {
        "soup_cdn_agent",
        "h11",
        "httpx",
        "pydantic",
        "pydantic_settings",
        "structlog",
    } | sys.stdlib_module_names
    imported = set[str]()
    for file in (ROOT / "cdn-agent" / "soup_cdn_agent").glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                imported |= {name.name.partition(".")[0] for name in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported.add(str(node.module).partition(".")[0])

    assert {"httpx", "structlog"} <= imported
    assert set() == imported - allowed
