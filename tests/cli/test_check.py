"""`soup check` and what every verb shares."""

import subprocess
import sys
from importlib.metadata import version

from tests.command import refusal, soup


def test_good_settings(tmp_path) -> None:
    """
    One line, exit status 0, and nothing is made.
    """
    ended = soup("check", cwd=tmp_path)

    assert (0, "") == (ended.returncode, ended.stderr)
    assert f"The settings are good: data in {tmp_path}/soup-data, port 8080.\n" == ended.stdout
    assert [] == list(tmp_path.iterdir())


def test_every_fault_at_once(tmp_path) -> None:
    """
    A line for each fault of the file, exit status 1, no trace.
    """
    file = tmp_path / "soup.yaml"
    file.write_text("server: {prot: 80}\ndatabase: mysql://x/y\ncdn: {silence_seconds: -1, redirects: 5}\n")

    ended = soup("check", "--config", "soup.yaml", cwd=tmp_path)

    assert (1, "") == (ended.returncode, ended.stdout)
    assert [
        (
            "soup: database: no URL of a database soup knows: "
            "sqlite:///path/to/soup.db or postgresql://user@host/name"
        ),
        "soup: server.prot: no such setting, did you mean server.port?",
        "soup: cdn.redirects: input should be a valid boolean, unable to interpret input, not 5",
        "soup: cdn.silence_seconds: input should be greater than 0, not -1",
    ] == ended.stderr.splitlines()
    assert [file] == list(tmp_path.iterdir())


def test_the_file_of_the_environment(tmp_path) -> None:
    """
    SOUP_CONFIG is checked as --config is.
    """
    (tmp_path / "soup.yaml").write_text("- soup")

    ended = soup("check", cwd=tmp_path, SOUP_CONFIG="soup.yaml")

    assert "soup.yaml: sections with keys are wanted, not list" == refusal(ended)


def test_a_file_that_is_not_there(tmp_path) -> None:
    """
    A settings file that was named must be there.
    """
    ended = soup("check", "--config", "none.yaml", cwd=tmp_path)

    assert "none.yaml: No such file or directory" == refusal(ended)


def test_names_that_mean_nothing(tmp_path) -> None:
    """
    A name that looks like soup's is warned about and does no harm.
    """
    ended = soup("check", cwd=tmp_path, SOUP_PORT="tcp://10.0.0.7:8080")

    assert 0 == ended.returncode
    assert "soup: SOUP_PORT is in the environment and means nothing to soup\n" == ended.stderr


def test_a_password_in_a_database_url(tmp_path) -> None:
    """
    What soup says of a URL does not show the password in it.
    """
    ended = soup("check", cwd=tmp_path, SOUP_DATABASE="mysql://cook:saffron@db/soup")

    assert "no URL of a database" in refusal(ended)
    assert "saffron" not in ended.stderr


def test_help(tmp_path) -> None:
    """
    Every verb is named with what it does.
    """
    ended = soup("--help", cwd=tmp_path)

    assert 0 == ended.returncode
    assert "serve" in ended.stdout
    assert "check" in ended.stdout
    assert "Check the settings and say every fault at once." in ended.stdout


def test_help_does_not_wait_for_libraries() -> None:
    """
    `soup --help` imports neither the framework nor the database's library: it starts at once.
    """
    code = """
import sys
from soup.cli.root import soup
soup.main(["--help"], standalone_mode=False)
print("imported", sorted({"litestar", "sqlalchemy", "sqlmodel", "granian", "pydantic"} & {*sys.modules}))
"""

    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert "imported []" == ended.stdout.splitlines()[-1]


def test_version(tmp_path) -> None:
    """
    The version that is installed.
    """
    assert f"soup, version {version('soup')}\n" == soup("--version", cwd=tmp_path).stdout


def test_an_unknown_verb(tmp_path) -> None:
    """
    A word that is no verb is refused, with exit status 2 as everywhere, and a way to go on.
    """
    ended = soup("sreve", cwd=tmp_path)

    assert 2 == ended.returncode
    assert "No such command 'sreve'" in ended.stderr
    assert "Traceback" not in ended.stderr
