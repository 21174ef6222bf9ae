"""Names of hosts, and where a mirror is."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from soup.core.errors import BadMirror
from soup.mirrors.model import Fqdn, Mirror, Terms

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
GOOD = {
    "localhost": "localhost",
    "a.example": "a.example",
    "MIRROR.Example": "mirror.example",
    "xn--sppchen-n2a.example": "xn--sppchen-n2a.example",
    "my_mirror.example": "my_mirror.example",
    "1.2.3.4": "1.2.3.4",
    "3com.example": "3com.example",
    "[::1]": "[::1]",
    "[2001:DB8::1]": "[2001:db8::1]",
    "[2001:0db8:0:0::0001]": "[2001:db8::1]",
    "[::FFFF:7f00:1]": "[::ffff:127.0.0.1]",
    "0x.example": "0x.example",
    f"{'a' * 63}.example": f"{'a' * 63}.example",
}
BAD = [
    "",
    ".",
    "a.example.",
    ".a.example",
    "a..example",
    "a.example\r\nX-Evil: 1",
    "a.example\n",
    "a.example\0",
    " a.example",
    "a b.example",
    "https://a.example",
    "//a.example",
    "a.example:443",
    "a.example/path",
    "a.example?x",
    "a.example#x",
    "user@a.example",
    "a%2eexample",
    "-a.example",
    "a-.example",
    "*.example",
    "süppchen.example",
    "\u212aube.example",  # a Kelvin sign, whose lower case is a plain k
    f"{'a' * 64}.example",
    ".".join(["a" * 59] * 5),  # 299 characters
    "a" * 300,
    "256.1.1.1",
    "1.2.3",
    "0x7f000001",
    "127.0.0.0x1",
    "a.0x",
    "1",
    "::1",
    "[::1",
    "[::1]:80",
    "[::1%eth0]",
    "[a.example]",
    "[1.2.3.4]",
    "[]",
]


@pytest.mark.parametrize(("text", "expected"), GOOD.items())
def test_a_host(text: str, expected: str) -> None:
    """
    A name or an address as it stands in a URL is taken, in lower case; one address has one spelling.
    """
    assert expected == Fqdn(text)


@pytest.mark.parametrize("text", BAD)
def test_no_host(text: str) -> None:
    """
    Whatever cannot stand between `https://` and `/` is refused.
    """
    with pytest.raises(BadMirror):
        Fqdn(text)


@given(st.text(alphabet=st.characters() | st.sampled_from("aZ0.-_[]:/\r\n %@"), max_size=40))
def test_any_text(text: str) -> None:
    """
    What is taken as a host is harmless in a header and a URL, and taken as it is the second time.
    """
    try:
        host = Fqdn(text)
    except BadMirror:
        return

    assert set(host) <= set("abcdefghijklmnopqrstuvwxyz0123456789._-[]:")
    assert host == Fqdn(host)
    assert host == text.lower() or text.startswith("[")


PLACES = [
    ("https", 443, "https://a.example"),
    ("https", 8443, "https://a.example:8443"),
    ("https", 80, "https://a.example:80"),
    ("http", 80, "http://a.example"),
    ("http", 8080, "http://a.example:8080"),
    ("http", 443, "http://a.example:443"),
]


@pytest.mark.row("S8")
@pytest.mark.parametrize(("scheme", "port", "expected"), PLACES)
def test_where_a_mirror_is(scheme: str, port: int, expected: str) -> None:
    """
    A mirror is at `https://fqdn`; only a port that is not the scheme's own is written (C7).
    """
    assert expected == Mirror(1, Terms(Fqdn("a.example"), scheme, port), NOON).origin
