"""`soup serve`: what it says when it starts, and when it does not."""

import pytest

from soup.cli.serve import dangers
from soup.settings import Settings
from tests.command import refusal, soup

pytestmark = pytest.mark.sqlite  # rows have no part in it


def test_what_it_says(serve) -> None:
    """
    Where soup is, where the token is, and three lines to try, which can be pasted as they are.
    """
    server = serve()

    said = server.log.read_text()
    assert f"soup serves on {server.url}, with its data in {server.data}\n" in said
    assert f"the administrator's token is in {server.data.name}/admin-token (made now)\n" in said
    lines = [line.strip() for line in said.splitlines() if line.startswith("  curl ")]
    bearer = f'-H "Authorization: Bearer $(cat {server.data.name}/admin-token)"'
    assert [
        f"curl -T README.md {bearer} {server.url}/api/blob",
        f"curl -L {server.url}/$(sha256sum README.md | cut -c1-64)",
        f"curl {bearer} {server.url}/api/cdn:list",
    ] == lines


def test_a_token_that_was_put_away(serve) -> None:
    """
    No file is named that is not there, neither as the token's nor in what can be tried.
    """
    first = serve()
    first.stop()
    (first.data / "admin-token").unlink()

    said = serve(data=first.data).log.read_text()

    assert "the administrator's token is not here: make another with TOKEN=$(soup token new admin)\n" in said
    assert '-H "Authorization: Bearer $TOKEN"' in said
    assert "admin-token" not in said


def test_it_never_says_the_token(serve) -> None:
    """
    The place of the token is said, the token is not.
    """
    server = serve()

    assert server.token not in server.log.read_text()


@pytest.mark.parametrize(
    ("given", "word"),
    [
        ({"auth": {"mode": "open"}}, "auth.mode"),
        ({"cdn": {"report_auth": "none"}}, "cdn.report_auth"),
        ({}, None),
    ],
)
def test_dangers(given, word) -> None:
    """
    Settings that leave a door open are named, and the default leaves none open.
    """
    found = dangers(Settings.model_validate(given))

    assert ([] if word is None else [word]) == [danger.split()[0] for danger in found]


def test_dangers_are_said_loudly(serve) -> None:
    """
    They are warnings in the log of every start.
    """
    server = serve(auth__mode="open", PORT="tcp://10.0.0.7:8080")

    lines = server.log.read_text().splitlines()
    assert [line for line in lines if "auth.mode is open" in line and '"level": "warning"' in line]
    assert [line for line in lines if "environment.unknown" in line and '"SOUP_PORT"' in line]


def test_settings_that_are_refused(tmp_path) -> None:
    """
    Faults are said as `soup check` says them, and nothing is made.
    """
    ended = soup("serve", cwd=tmp_path, SOUP_SERVER__PORT="http")

    assert refusal(ended).startswith("server.port (SOUP_SERVER__PORT): input should be a valid integer")
    assert [] == list(tmp_path.iterdir())


def test_settings_of_the_command_line(serve, tmp_path) -> None:
    """
    Workers read the file that the command line named, wherever they run, and the environment wins.
    """
    (tmp_path / "soup.yaml").write_text("cdn: {redirects: false}\nserver: {port: 1}\nauth: {read: token}\n")

    server = serve(config="soup.yaml", auth__read="open")
    server.mirror("mirror.example")

    assert 200 == server.client.get("/" + server.keep(b"from the file")).status_code


def test_an_address_that_is_none(tmp_path) -> None:
    """
    A host that cannot be resolved is refused under the name of its setting.
    """
    ended = soup("serve", cwd=tmp_path, SOUP_SERVER__HOST="no.such.host.invalid")

    assert refusal(ended).startswith("server.host: 'no.such.host.invalid' is no address: ")


def test_an_address_of_another_machine(tmp_path) -> None:
    """
    An address this machine does not have is refused before anything is made.
    """
    ended = soup("serve", cwd=tmp_path, SOUP_SERVER__HOST="192.0.2.1")

    assert "cannot listen on 192.0.2.1 port 8080: Cannot assign requested address" == refusal(ended)
    assert [] == list(tmp_path.iterdir())


@pytest.mark.parametrize("host", ["localhost", "0.0.0.0"])  # noqa: S104 - that is what is tried
def test_addresses(host, serve) -> None:
    """
    A name and the address of all interfaces are good; what is printed can be reached.
    """
    server = serve(server__host=host)

    shown = "127.0.0.1" if host == "0.0.0.0" else host  # noqa: S104
    assert f"soup serves on http://{shown}:{server.port}, " in server.log.read_text()
