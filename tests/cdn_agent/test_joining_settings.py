"""Settings of an agent that joins, and of the web server that it runs."""

import os

import pytest
from soup_cdn_agent.settings import Refused, Settings


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        ({}, "id is wanted, or join_token"),
        ({"id": "7"}, "one of token and token_file"),
        ({"id": "7", "token": "t", "join_token": "j"}, "id and token, or join_token"),
        ({"token_file": "/t", "join_token": "j"}, "id and token, or join_token"),
        ({"join_token": "j", "join_token_file": "/j"}, "one of join_token and join_token_file"),
        ({"join_token": "j", "fqdn": "https://m.example"}, "fqdn: "),
        ({"join_token": "j", "fqdn": "m.example:443"}, "fqdn: "),
        ({"join_token": "j", "scheme": "ftp"}, "scheme: "),
        ({"join_token": "j", "port": "65536"}, "port: "),
        ({"join_token": "j", "mode": "half"}, "mode: "),
        ({"join_token": "j", "beside": "nginx -g 'daemon off"}, "beside: No closing quotation"),
        ({"join_token": "j", "beside_stop": "KILL"}, "beside_stop: "),
    ],
)
def test_a_mirror_was_added_or_it_joins(
    monkeypatch: pytest.MonkeyPatch, settings: dict[str, str], fault: str
) -> None:
    """
    Neither, both or half of either is a fault that is told in a line; so is an address that is none.
    """
    given(monkeypatch, settings)

    with pytest.raises(Refused, match=fault):
        Settings.load()


def test_what_is_empty_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A compose file hands on variables that nobody has set.
    """
    empty = dict.fromkeys(("id", "token", "token_file", "join_token_file", "fqdn", "port", "beside"), "")
    given(monkeypatch, {"join_token": "j", **empty})

    settings = Settings.load()

    assert (None, "j", "", None, ()) == (
        settings.id, settings.secret, settings.fqdn, settings.port, settings.beside
    )  # fmt: skip


def test_an_address_of_a_node(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    It may come as a cluster tells it; in a URL one of IPv6 has brackets.
    """
    found = []
    for fqdn in ("2001:db8::5", "[2001:db8::5]", "192.0.2.5"):
        given(monkeypatch, {"join_token": "j", "fqdn": fqdn})
        found.append(Settings.load().fqdn)

    assert ["[2001:db8::5]", "[2001:db8::5]", "192.0.2.5"] == found


def given(monkeypatch: pytest.MonkeyPatch, settings: dict[str, str]) -> None:
    for name in [name for name in os.environ if name.startswith("SOUP_")]:
        monkeypatch.delenv(name)
    for name, value in {"core": "http://soup.example", **settings}.items():
        monkeypatch.setenv(f"SOUP_AGENT_{name.upper()}", value)
