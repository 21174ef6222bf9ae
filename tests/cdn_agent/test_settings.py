"""The agent's settings."""

import os
from pathlib import Path
from typing import Any

import pytest
from soup_cdn_agent.folder import Folder, Room
from soup_cdn_agent.page import METRICS
from soup_cdn_agent.settings import Refused, Settings

README = Path("cdn-agent/README.md").read_text()
NEEDED = {"core": "http://soup.example:8080", "id": "7", "token": "secret"}


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is set by whoever runs the tests."""
    for name in list(os.environ):
        if name.startswith("SOUP_"):
            monkeypatch.delenv(name)


def given(monkeypatch: pytest.MonkeyPatch, **settings: str) -> None:
    for name, value in (NEEDED | settings).items():
        monkeypatch.setenv(f"SOUP_AGENT_{name.upper()}", value)


def test_every_setting_and_every_metric_is_in_the_readme() -> None:
    """
    One that nobody can find does not exist.
    """
    wanted = [f"| `{name}` |" for name in Settings.model_fields]
    wanted += [f"| `soup_agent_{name}` |" for name in METRICS]

    assert [] == [line for line in wanted if line not in README]


def test_the_defaults_are_those_of_the_readme(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    The table says what happens to who sets nothing.
    """
    given(monkeypatch)
    settings = Settings.load()

    told = {
        cells[1].strip(" `"): cells[2].strip(" `")
        for cells in (line.split("|") for line in README.splitlines() if line.startswith("| `"))
        if len(cells) == 5
    }
    for name, field in Settings.model_fields.items():
        default = field.default
        if name in NEEDED or default in (None, ()):
            assert "" == told[name]
        elif default is True:
            assert "true" == told[name]
        elif told[name].endswith("MiB"):
            assert getattr(settings, name) == int(told[name].removesuffix("MiB")) << 20
        else:
            assert str(default) == told[name]


def test_the_environment_is_over_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """
    A list is one in TOML and words in the environment; sizes have units in both.
    """
    file = tmp_path / "agent.toml"
    file.write_text(
        'core = ["http://a:1/", "http://b:2"]\nid = 1\ntoken = "t"\nreserve = "2GiB"\nblobs = "/srv/blobs"\n'
    )
    monkeypatch.setenv("SOUP_AGENT_BLOBS", "/data/other")
    monkeypatch.setenv("SOUP_AGENT_ACCESS_LOG", "/var/log/a.log, /var/log/b.log")

    settings = Settings.load(file)

    assert ("http://a:1", "http://b:2") == settings.core
    assert Path("/data/other") == settings.blobs
    assert 2 << 30 == settings.reserve
    assert (Path("/var/log/a.log"), Path("/var/log/b.log")) == settings.access_log


@pytest.mark.parametrize(
    ("text", "free"),
    [("", 1 << 30), ("0", 0), ("1500", 1500), ("2 GiB", 2 << 30), ("15%", 15 << 30), ("0.5 %", 512 << 20)],
)
def test_the_reserve_is_a_size_or_a_share(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str, free: int
) -> None:
    """
    A share is one of the disk that the blobs are on, which nobody has to know when he writes it.
    """
    given(monkeypatch, reserve=text)

    folder = Folder(tmp_path, Settings.load().reserve)

    assert free == folder.reserve(Room(free=0, total=100 << 30))


def test_a_token_in_a_file_is_read_anew(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """
    Who rotates a token writes the file, and restarts nothing.
    """
    file = tmp_path / "token"
    file.write_text("one\n")
    given(monkeypatch, token="", token_file=str(file))
    settings = Settings.load()
    assert "one" == settings.secret

    file.write_text("two\n")

    assert "two" == settings.secret


def test_a_token_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Neither settings that are printed nor a fault in another setting gives it away.
    """
    given(monkeypatch)
    assert "secret" not in repr(Settings.load())

    given(monkeypatch, web="ftp://here")
    with pytest.raises(Refused) as refused:
        Settings.load()
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        ({"id": "x"}, "id: "),
        ({"id": "0"}, "id: "),
        ({"core": "soup.example"}, "core: a URL begins with http:// or https://"),
        ({"core": ""}, "core: at least one URL"),
        ({"web": "127.0.0.1"}, "web: a URL begins"),
        ({"reserve": "much"}, "reserve: neither a size such as 10GiB nor a share such as 15%: 'much'"),
        ({"reserve": "100%"}, "reserve: neither"),
        ({"reserve": "-1"}, "reserve: neither"),
        ({"interval": "0"}, "interval: "),
        ({"token": ""}, "one of token and token_file"),
        ({"token_file": "/x"}, "one of token and token_file"),
        ({"smallest": "10", "largest": "9"}, "smallest is more than largest"),
        ({"listen": "here"}, "listen: "),
        ({"strays": "eat"}, "strays: "),
    ],
)
def test_a_setting_that_cannot_be_right_is_named(
    monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], fault: str
) -> None:
    """
    The fault says which setting, in a line.
    """
    given(monkeypatch, **settings)

    with pytest.raises(Refused, match=fault):
        Settings.load()


def test_every_fault_is_said_at_once(tmp_path: Path) -> None:
    """
    Nobody likes to mend a file five times; an unknown key is a fault as well.
    """
    file = tmp_path / "agent.toml"
    file.write_text('id = -1\ncoer = "http://a"\nparallel = 0\n')

    with pytest.raises(Refused) as refused:
        Settings.load(file)

    assert {"core", "id", "coer", "parallel"} == {
        line.split()[0].strip(":") for line in str(refused.value).splitlines()
    }


@pytest.mark.parametrize("text", ["id = ", "\x00"])
def test_a_file_that_is_no_toml_is_named(tmp_path: Path, text: str) -> None:
    """
    So is one that is not there.
    """
    file = tmp_path / "agent.toml"
    with pytest.raises(Refused, match="No such file"):
        Settings.load(file)

    file.write_text(text)
    with pytest.raises(Refused, match="not TOML"):
        Settings.load(file)
