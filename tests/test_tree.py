"""Sections within sections: in the file, in the environment, and in what is said of them."""

from pathlib import Path

import pytest

from soup.core.errors import Refused
from soup.serve.reload import differences
from soup.settings import Settings, settings
from soup.tree import unknown


def test_a_section_in_a_section(tmp_path: Path) -> None:
    """
    The file says what it says of one, the environment wins over it, and the rest stays as it was.
    """
    file = tmp_path / "soup.yaml"
    file.write_text("cdn: {alternates: 3, join: {enabled: false, most: 7}}\n")

    found = Settings.load(
        {"SOUP_CDN__JOIN__MOST": "9", "SOUP_CDN__JOIN__TOKEN_FILE": "/run/secret"}, file
    ).cdn

    assert (3, False, 9, Path("/run/secret")) == (
        found.alternates,
        found.join.enabled,
        found.join.most,
        found.join.token_file,
    )
    assert not found.join.allow_private


@pytest.mark.parametrize("text", ["cdn:\n", "cdn: {join: }\n", "cdn: {join: {}}\n", ""])
def test_a_section_that_says_nothing(tmp_path: Path, text: str) -> None:
    """
    The environment may fill it.
    """
    file = tmp_path / "soup.yaml"
    file.write_text(text)

    assert 9 == Settings.load({"SOUP_CDN__JOIN__MOST": "9"}, file).cdn.join.most


def test_settings_of_all_depths() -> None:
    """
    Each is called by its path, and none is a section.
    """
    assert {"data", "cdn.redirects", "cdn.join.most"} <= settings().keys()
    assert not {"cdn", "cdn.join"} & settings().keys()


@pytest.mark.parametrize(
    ("name", "value", "fault"),
    [
        ("SOUP_CDN__JOIN__MOST", "many", "cdn.join.most (SOUP_CDN__JOIN__MOST): input should be"),
        ("SOUP_CDN__JOIN__MOST", "-1", "cdn.join.most (SOUP_CDN__JOIN__MOST): input should be"),
        ("SOUP_CDN__JOIN__MORE", "1", "cdn.join.more (SOUP_CDN__JOIN__MORE): no such setting, did you mean"),
        (
            "SOUP_CDN__JION__MOST",
            "1",
            "cdn.jion (SOUP_CDN__JION__MOST): no such setting, did you mean cdn.join",
        ),
        ("SOUP_CDN__JOIN", "1", "cdn.join (SOUP_CDN__JOIN): input should be a valid dictionary"),
        ("SOUP_CDN__REDIRECTS__NOT", "1", "cdn.redirects (SOUP_CDN__REDIRECTS__NOT): input should be"),
        ("SOUP_CDN__JOIN__", "1", "cdn.join__ (SOUP_CDN__JOIN__): no such setting"),
        ("SOUP_DATA__X", "1", "data (SOUP_DATA__X): input is not a valid path"),
    ],
)
def test_what_cannot_be(name: str, value: str, fault: str) -> None:
    """
    It is said where it stands and which name it has in the environment.
    """
    with pytest.raises(Refused) as refused:
        Settings.load({name: value})

    assert str(refused.value).startswith(fault)
    assert [] == unknown({name: value})


def test_a_section_that_is_none(tmp_path: Path) -> None:
    """
    A value stands in the file where the environment wants a section: it is named.
    """
    file = tmp_path / "soup.yaml"
    file.write_text("cdn: {join: 5}\n")

    with pytest.raises(Refused, match=r"SOUP_CDN__JOIN__MOST: cdn\.join is no section"):
        Settings.load({"SOUP_CDN__JOIN__MOST": "9"}, file)


def test_what_differs() -> None:
    """
    A setting within a section within a section is named by its path, and taken as its section is.
    """
    now = Settings.model_validate({"cdn": {"join": {"most": 7}}, "feed": {"keep_days": 1}, "data": "a"})

    assert (["cdn.join.most"], ["data", "feed.keep_days"]) == differences(now, Settings())


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (
            'data: x\ndatabase: "postgresql://soup:hunter2@db/soup\nlog: {}\n',
            "found unexpected end of stream (line 4, column 1), while scanning a quoted scalar",
        ),
        (
            "database: 'postgresql:' hunter2\n",
            "expected <block end>, but found '<scalar>' (line 1, column 25), while parsing a block mapping",
        ),
        ("database: *hunter2\n", "found undefined alias ... (line 1, column 11)"),
        (
            "database: !hunter2\n",
            "could not determine a constructor for the tag ... (line 1, column 11)",
        ),
        ("database: !!int hunter2\n", "this cannot be read as int (line 1, column 11)"),
    ],
)
def test_a_fault_beside_a_password(tmp_path: Path, text: str, fault: str) -> None:
    """
    What is wrong is said, and where; what stands there is not.
    """
    file = tmp_path / "soup.yaml"
    file.write_text(text)

    with pytest.raises(Refused) as refused:
        Settings.load({}, file)

    assert str(refused.value).startswith(f"{file}: not YAML: {fault}")
    assert "hunter2" not in str(refused.value)
