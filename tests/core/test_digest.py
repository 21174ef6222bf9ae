"""The name that cannot lie."""

import hashlib
import pickle
import re
from base64 import b64decode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from soup.core.digest import Digest
from soup.core.errors import BadDigest

EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_the_empty_blob() -> None:
    """
    The empty blob is legal, and its name is the one everybody knows.
    """
    assert Digest.of(b"") == EMPTY


@pytest.mark.parametrize(
    "text",
    [
        "",
        EMPTY[:63],
        EMPTY + "0",
        EMPTY.upper(),
        EMPTY[:63] + "g",
        EMPTY + "\n",
        "\n" + EMPTY,
        " " + EMPTY[1:],
        EMPTY[:63] + "\0",
        EMPTY[:62] + "%2",
        "../" + EMPTY[3:],
        EMPTY[:63] + "\N{FULLWIDTH DIGIT ONE}",
        EMPTY[:63] + "\N{ARABIC-INDIC DIGIT ONE}",
    ],
)
def test_what_is_no_digest(text: str) -> None:
    """
    Anything but 64 lower-case hex digits cannot become a digest.
    """
    with pytest.raises(BadDigest):
        Digest(text)


@given(st.text(alphabet="0123456789abcdefABCDEFg \n/.", min_size=60, max_size=68))
def test_only_the_pattern_decides(text: str) -> None:
    """
    A text is a digest where all of it is 64 lower-case hex digits, and nowhere else.
    """
    expected = len(text) == 64 and not re.search("[^0-9a-f]", text)

    try:
        Digest(text)
        accepted = True
    except BadDigest:
        accepted = False
    assert expected == accepted


@given(st.binary(max_size=200))
def test_every_form_is_the_same_digest(data: bytes) -> None:
    """
    Text, the 32 bytes of a table and base64 say the same, and lead back to it.
    """
    digest = Digest.of(data)

    assert hashlib.sha256(data).hexdigest() == digest
    assert digest == Digest.from_raw(digest.raw)
    assert hashlib.sha256(data).digest() == digest.raw == b64decode(digest.base64)
    assert digest == pickle.loads(pickle.dumps(digest))  # noqa: S301 - our own


def test_where_it_lies_and_how_it_is_tagged() -> None:
    """
    The folder is its first three digits, the entity tag is the quoted digest.
    """
    digest = Digest(EMPTY)

    assert "e3b" == digest.folder
    assert f'"{EMPTY}"' == digest.etag


def test_a_long_wrong_text_is_cut_in_the_error() -> None:
    """
    An error shows what came, and not all of it: it goes into answers and logs.
    """
    with pytest.raises(BadDigest) as caught:
        Digest("x" * 10_000)

    assert len(str(caught.value)) < 200
