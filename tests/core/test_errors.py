"""The tree of errors."""

import re
from collections.abc import Iterator

import pytest

from soup.core import errors
from soup.core.errors import SoupError


def family(kind: type[SoupError]) -> Iterator[type[SoupError]]:
    """The errors of this module, from the root."""
    for child in kind.__subclasses__():
        if child.__module__ == errors.__name__:
            yield child
            yield from family(child)


def drawn() -> dict[str, str]:
    """What the drawing in the docstring says: each error and what it comes from."""
    found, branch = {}, ""
    for line in (SoupError.__doc__ or "").splitlines():
        words = re.findall(r"\b[A-Z][A-Za-z]+\b", line)
        if "──" in line:
            branch, *leaves = words
            found[branch] = "SoupError"
        elif "│" in line and branch:
            leaves = words
        else:
            continue
        found.update(dict.fromkeys(leaves, branch))
    return found


def test_the_drawing_is_the_tree() -> None:
    """
    Every error stands in the drawing, under what it comes from, and nothing else does.
    """
    real = {kind.__name__: kind.__bases__[0].__name__ for kind in family(SoupError)}

    assert real == drawn()


@pytest.mark.parametrize(
    ("kind", "slug", "title"),
    [
        (errors.BlobUnknown, "blob-unknown", "Blob unknown"),
        (errors.NoRoom, "no-room", "No room"),
        (errors.Busy, "busy", "Busy"),
        (errors.HeaderTooLarge, "header-too-large", "Header too large"),
    ],
)
def test_what_people_and_programs_see(kind: type[SoupError], slug: str, title: str) -> None:
    """
    A program reads the slug, a person the title; both come from the name.
    """
    assert slug == kind.slug()
    assert title == kind.title()


def test_no_two_errors_share_a_slug() -> None:
    """
    A slug tells a program which error it is.
    """
    slugs = [kind.slug() for kind in family(SoupError)]

    assert sorted(set(slugs)) == sorted(slugs)
    assert [] == [slug for slug in slugs if not re.fullmatch("[a-z]+(-[a-z]+)*", slug)]


def test_every_error_says_what_it_means() -> None:
    """
    An error has a sentence of its own, and "try again" says when.
    """
    assert [] == [kind.__name__ for kind in family(SoupError) if not kind.__doc__]
    assert [] == [kind.__name__ for kind in family(errors.Unavailable) if kind.retry_after < 1]  # type: ignore[attr-defined]


def test_the_digest_goes_along() -> None:
    """
    An error about a blob knows which, and its text is the detail alone.
    """
    error = errors.BlobUnknown("no such blob", digest="abc")

    assert "abc" == error.digest
    assert "no such blob" == str(error)
    assert errors.NoRoom("full").digest is None
