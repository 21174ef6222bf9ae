"""The secret in a file by which mirrors may join."""

import hashlib
import os
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from soup.access.joining import Secret, read
from soup.core.errors import Refused
from tests.command import refusal, soup

SECRET = "leek-and-potato-and-onion"  # noqa: S105 - of a test


def is_it(secret: Secret, text: str) -> bool:
    return secret.is_it(hashlib.sha256(text.encode()).digest())


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "secret"
    file.write_text(f"{SECRET}\n")
    return file


@pytest.mark.row("S33")
def test_a_secret(file: Path) -> None:
    """
    It is what stands in the file, without the end of the line.
    """
    assert SECRET == read(file)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "of 16 to 1024 characters is wanted, not 0"),
        (b"x" * 15 + b"\n", "of 16 to 1024 characters is wanted, not 15"),
        (b"x" * 1025, "of 16 to 1024 characters is wanted, not 1025"),
        (b"x" * 5000, "of 16 to 1024 characters is wanted, not 2048"),
        (b"leek and potato and onion", "without spaces"),
        ("lauch-und-m\u00f6hre-und-zwiebel".encode(), "of ASCII"),
        (b"one-line-of-secret\nanother-line-of-it\n", "without spaces"),
    ],
)
def test_a_secret_that_is_none(file: Path, content: bytes, reason: str) -> None:
    """
    It is said why, and never what it is.
    """
    file.write_bytes(content)

    with pytest.raises(Refused, match=reason) as refused:
        read(file)

    assert str(refused.value).startswith(f"{file}: ")
    assert "leek" not in str(refused.value)


def test_a_file_that_is_none(tmp_path: Path) -> None:
    """
    One that is not there, a folder, and a pipe that would be waited for.
    """
    os.mkfifo(tmp_path / "pipe")

    for name, reason in {"none": "No such file", ".": "not a file", "pipe": "not a file"}.items():
        with pytest.raises(Refused, match=reason):
            read(tmp_path / name)


async def test_a_secret_that_changes(file) -> None:
    """
    Each look takes up what the file has by then: another secret, none, and one again.
    """
    secret = Secret(file)
    assert not is_it(secret, SECRET)
    await secret.look()
    assert (True, False) == (is_it(secret, SECRET), is_it(secret, SECRET[:-1]))

    file.write_text("a-wholly-other-secret")
    await secret.look()
    assert (False, True) == (is_it(secret, SECRET), is_it(secret, "a-wholly-other-secret"))
    with capture_logs() as logs:
        file.unlink()
        await secret.look()
        await secret.look()
    assert not is_it(secret, "a-wholly-other-secret")
    assert [("join.no_secret", f"{file}: No such file or directory")] == [
        (log["event"], log["reason"]) for log in logs
    ]
    file.write_text(SECRET)
    await secret.look()
    assert is_it(secret, SECRET)


async def test_another_file(file: Path, tmp_path: Path) -> None:
    """
    The secret of the file before is good no more, at once; without a file there is none.
    """
    (tmp_path / "other").write_text("a-wholly-other-secret")
    secret = Secret(file)
    await secret.look()
    secret.become(tmp_path / "other")
    assert not is_it(secret, SECRET)
    await secret.look()
    assert is_it(secret, "a-wholly-other-secret")

    secret.become(None)
    await secret.look()

    assert not is_it(secret, "a-wholly-other-secret")


@pytest.mark.parametrize("verb", ["serve", "check"])
def test_soup_does_not_start_without_it(tmp_path: Path, verb: str) -> None:
    """
    A file that was named and is not there is said in one line, and so is a secret that is too short.
    """
    file = tmp_path / "secret"
    given = {"SOUP_DATA": "data", "SOUP_CDN__JOIN__TOKEN_FILE": str(file)}

    assert f"cdn.join.token_file: {file}: No such file or directory" == refusal(
        soup(verb, cwd=tmp_path, **given)
    )
    file.write_text("short")
    assert refusal(soup(verb, cwd=tmp_path, **given)).startswith(
        f"cdn.join.token_file: {file}: a secret of 16"
    )
    assert not (tmp_path / "data").exists()
