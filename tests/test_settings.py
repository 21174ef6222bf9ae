"""Settings: where they come from, what is refused, and that each does something."""

import ast
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from soup.core.errors import Refused
from soup.settings import Section, Settings, settings
from soup.tree import unknown

SOUP = Path(__file__).parent.parent / "soup"
SERVE = ("serve/listener.py", "serve/parent.py", "serve/worker.py")
READERS = ("app.py", "prepare.py", "cli/config.py", "cli/serve.py", "settings.py", *SERVE)


@pytest.fixture
def written(tmp_path):
    """Settings from a file with this text."""

    def load(text: str | bytes, **environment: str) -> Settings:
        file = tmp_path / "soup.yaml"
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
        return Settings.load(environment, file)

    return load


def faults(text: str, written: Any, **environment: str) -> list[str]:
    with pytest.raises(Refused) as refused:
        written(text, **environment)
    return str(refused.value).splitlines()


def test_nothing_is_set() -> None:
    """
    Without file and environment soup has a default for everything.
    """
    assert Settings() == Settings.load({})


def test_a_file(written) -> None:
    """
    The file says what it says, and the rest of a section stays as it was.
    """
    found = written("server: {port: 9000}\ncdn: {redirects: false, silence_seconds: 2.5}\n")

    assert 9000 == found.server.port
    assert Settings().server.host == found.server.host
    assert (False, 2.5) == (found.cdn.redirects, found.cdn.silence_seconds)


def test_the_file_that_the_environment_names(tmp_path) -> None:
    """
    SOUP_CONFIG names the file where the command line names none.
    """
    (tmp_path / "one.yaml").write_text("server: {port: 9001}")
    (tmp_path / "two.yaml").write_text("server: {port: 9002}")
    named = {"SOUP_CONFIG": str(tmp_path / "one.yaml")}

    assert 9001 == Settings.load(named).server.port
    assert 9002 == Settings.load(named, tmp_path / "two.yaml").server.port


@pytest.mark.parametrize("text", ["", "# nothing\n", "server:\n", "server: {}\n", "data:\n"])
def test_an_empty_file_or_section(text, written) -> None:
    """
    A section whose keys are all commented out says nothing, and the environment may fill it.
    """
    assert Settings() == written(text)
    assert 9001 == written(text, SOUP_SERVER__PORT="9001").server.port


def test_the_environment_is_over_the_file(written) -> None:
    """
    SOUP_SECTION__KEY wins over the file, and leaves the section's other keys alone.
    """
    found = written("server: {port: 9000, workers: 3}", SOUP_SERVER__PORT="9001", SOUP_LOG__LEVEL="debug")

    assert (9001, 3, "debug") == (found.server.port, found.server.workers, found.log.level)


def test_plain_names(written) -> None:
    """
    SOUP_DATA and SOUP_DATABASE are over the file as well.
    """
    found = written("data: /a\n", SOUP_DATA="/b", SOUP_DATABASE="sqlite:////c/soup.db")

    assert (Path("/b"), "sqlite:////c/soup.db") == (found.data, found.database)


def test_plain_names_that_are_empty() -> None:
    """
    An empty SOUP_DATA is not the folder soup was started in.
    """
    assert Settings() == Settings.load({"SOUP_DATA": "", "SOUP_DATABASE": "", "SOUP_CONFIG": ""})


def test_values_of_the_environment_inside_the_file(written) -> None:
    """
    ${NAME} in a value is replaced, alone or within text, and becomes a number where one is wanted.
    """
    found = written("data: ${HOME}/soup\nserver: {port: '${PORT}'}\n", HOME="/home/cook", PORT="9003")

    assert (Path("/home/cook/soup"), 9003) == (found.data, found.server.port)


def test_names_that_are_not_in_the_environment(written) -> None:
    """
    All of them are named, and nothing is silently empty.
    """
    found = faults("data: ${NO_SUCH}/x\nserver: {host: '${NOR_THIS}'}\n", written)

    assert ["${NO_SUCH} is not in the environment", "${NOR_THIS} is not in the environment"] == found


def test_every_fault_at_once(written) -> None:
    """
    All faults of file and environment are said together, each with its path and where it comes from.
    """
    found = faults(
        "server: {prot: 1, port: 70000}\nstok: 5\ndata: ${HOMELESS}/x\n", written, SOUP_LOG__LEVEL="loud"
    )

    assert [
        "${HOMELESS} is not in the environment",
        "server.port: input should be less than or equal to 65535, not 70000",
        "server.prot: no such setting, did you mean server.port?",
        "log.level (SOUP_LOG__LEVEL): input should be 'debug', 'info', 'warning' or 'error', not 'loud'",
        "stok: no such setting, did you mean store?",
    ] == found


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("cdn: {redirect: true}", "cdn.redirects"),
        ("sever: {}", "server"),
        ("redirects: false", "cdn.redirects"),
        ("server: {largest: 5}", "upload.largest"),
    ],
)
def test_an_unknown_key(text, meant, written) -> None:
    """
    A key that is spelt wrong, or stands in the wrong place, comes with the one that was probably meant.
    """
    (fault,) = faults(text, written)

    assert fault.endswith(f": no such setting, did you mean {meant}?")


def test_an_unknown_key_like_no_other(written) -> None:
    """
    Where nothing comes close, nothing is suggested.
    """
    assert ["qqqq: no such setting"] == faults("qqqq: 1", written)


def test_an_unknown_key_in_the_environment() -> None:
    """
    A setting that is spelt wrong in the environment is refused under the name it has there.
    """
    with pytest.raises(Refused, match=r"cdn\.redirect \(SOUP_CDN__REDIRECT\): no such setting"):
        Settings.load({"SOUP_CDN__REDIRECT": "off"})


@pytest.mark.parametrize(
    "text",
    [
        "server: {port: [",
        "a: b: c",
        "\t- x",
        "server: 2026-99-99",
        "a: !!timestamp x",
        "a: !!bool x",
        "a: &a [*a]",
    ],
)
def test_malformed_yaml(text, written) -> None:
    """
    What is no YAML is refused in one line that names the file.
    """
    (fault,) = faults(text, written)

    assert "soup.yaml: not YAML: " in fault


@given(
    st.text(
        alphabet=st.sampled_from("a:{}[]&*!-?|>'\"#%@`0x_.,~\n \t") | st.characters(codec="utf-8"),
        max_size=60,
    )
)
@example("? [a]\n: b")
@example("<<: 1")
@example("{[]: 1}")
@example("- " * 5000)
def test_any_text_for_a_file(tmp_path_factory, text) -> None:
    """
    Whatever stands in a settings file: settings come out, or Refused.
    """
    file = tmp_path_factory.getbasetemp() / "any.yaml"
    file.write_text(text, newline="")

    with suppress(Refused):
        Settings.load({}, file)


@pytest.mark.parametrize(("text", "kind"), [("- 1\n- 2", "list"), ("soup", "str"), ("5", "int")])
def test_yaml_that_is_no_tree(text, kind, written) -> None:
    """
    A list or a word where sections are wanted is refused.
    """
    (fault,) = faults(text, written)

    assert fault.endswith(f"soup.yaml: sections with keys are wanted, not {kind}")


def test_a_section_that_is_none(written) -> None:
    """
    A value where a section is wanted is refused, also when the environment adds to it.
    """
    found = faults("cdn: 5", written, SOUP_CDN__REDIRECTS="off")

    assert "SOUP_CDN__REDIRECTS: cdn is no section" in found


def test_a_key_that_stands_there_twice(written) -> None:
    """
    The first of two sections with one name would be lost without a word.
    """
    (fault,) = faults("server: {port: 1}\nlog: {}\nserver: {host: a}\n", written)

    assert "'server' stands there twice" in fault


def test_a_file_in_another_encoding(written) -> None:
    """
    UTF-8 or nothing.
    """
    with pytest.raises(Refused, match=r"soup.yaml: not YAML: 'utf-8' codec"):
        written("data: s\xfcppe".encode("latin-1"))


def test_a_file_that_cannot_be_read(tmp_path) -> None:
    """
    A file that was named and is not there, or is a folder, is a fault, not an empty file.
    """
    with pytest.raises(Refused, match=r"none.yaml: No such file or directory"):
        Settings.load({}, tmp_path / "none.yaml")
    with pytest.raises(Refused, match=r"Is a directory"):
        Settings.load({"SOUP_CONFIG": str(tmp_path)})


def test_names_of_kubernetes() -> None:
    """
    Kubernetes puts these into every pod when a service is called soup: they are warned about, and harmless.
    """
    environment = {
        "SOUP_PORT": "tcp://10.0.0.7:8080",
        "SOUP_PORT_8080_TCP_ADDR": "10.0.0.7",
        "SOUP_SERVICE_PORT": "8080",
        "SOUP__SERVICE_HOST": "10.0.0.8",
    }

    assert Settings() == Settings.load(environment)
    assert sorted(environment) == unknown(environment)


def test_names_that_mean_something() -> None:
    """
    No warning about a name that is read, nor about what is not soup's.
    """
    names = ["SOUP_DATA", "SOUP_DATABASE", "SOUP_CONFIG", "SOUP_SERVER__PORT", "SOUPC_URL", "PATH"]

    assert [] == unknown(dict.fromkeys(names, "x"))


@pytest.mark.parametrize(
    ("text", "size"), [("1GiB", 1 << 30), ("1.5 MiB", 3 << 19), ("2kB", 2000), ("100", 100), ("0", 0)]
)
def test_sizes(text, size, written) -> None:
    """
    A size is a number of bytes, with a unit if there is one.
    """
    assert size == written(f"upload: {{largest: {text}}}").upload.largest
    assert size == Settings.load({"SOUP_UPLOAD__LARGEST": text}).upload.largest


@pytest.mark.parametrize("text", ["-1", "-1GiB", "much", "1 potato"])
def test_sizes_that_are_none(text, written) -> None:
    """
    What is no size is refused.
    """
    (fault,) = faults(f"upload: {{largest: {text}}}", written)

    assert fault.startswith("upload.largest: ")


@pytest.mark.parametrize("name", ["SOUP_STORE__FOLDER", "SOUP_STORE__KEEP_FREE", "SOUP_UPLOAD__LARGEST"])
def test_an_empty_value(name) -> None:
    """
    Where "empty" has a meaning, an empty variable has it: no folder of blobs in the folder soup started in.
    """
    assert Settings() == Settings.load({name: ""})


def test_yaml_reads_off_as_false(written) -> None:
    """
    A setting whose value is the word `off` can be given as the README shows it.
    """
    assert Settings() == written("serve: {accel: off}") == written("cdn: {audit: on}")
    assert "off" == written("cdn: {audit: off}").cdn.audit


@pytest.mark.parametrize("path", [path for path in settings() if path != "data"])
def test_every_default_may_be_written_down(path, written) -> None:
    """
    A file that gives a setting its default, in the plainest way, changes nothing.
    """
    default = settings()[path][0]
    value = "" if default is None else str(default).lower() if isinstance(default, bool) else str(default)
    text = f"{path.replace('.', ': {')}: {value}{'}' * path.count('.')}"

    assert Settings() == written(text)


@pytest.mark.parametrize(
    "text",
    [
        "database: postgres",
        "database: mysql://soup@db/soup",
        "database: 'sqlite://'",
        "server: {url: soup.example}",
        "server: {url: 'ftp://soup.example'}",
        "server: {url: 'https://soup.example?x'}",
        "server: {port: 0}",
        "server: {workers: 0}",
        "server: {stop_seconds: 0}",
        "cdn: {silence_seconds: .inf}",
        "cdn: {silence_seconds: .nan}",
        "serve: {direct_slots: 0}",
        "data: 5",
    ],
)
def test_values_that_cannot_be(text, written) -> None:
    """
    What could not work later is refused at once.
    """
    (fault,) = faults(text, written)

    assert fault.startswith(f"{text.replace(': {', '.').partition(': ')[0]}: ")


def test_every_setting_has_a_description() -> None:
    """
    The README's table is made of these.
    """
    assert [] == [path for path, (_, text) in settings().items() if not text]


def test_every_setting_is_read() -> None:
    """
    A setting that nobody reads is a promise that nobody keeps.
    """
    read = {
        attributes
        for file in READERS
        for node in ast.walk(ast.parse((SOUP / file).read_text()))
        if (attributes := _attributes(node))
    }

    unread = [path for path in settings() if tuple(path.split(".")) not in read]

    assert [] == unread


def _attributes(node: ast.AST) -> tuple[str, ...]:
    """What is read of `settings` or, inside Settings, of `self`: ("server", "port")."""
    names: list[str] = []
    while isinstance(node, ast.Attribute):
        names.insert(0, node.attr)
        node = node.value
    return tuple(names) if isinstance(node, ast.Name) and node.id in {"settings", "self"} else ()


def test_sections_refuse_what_they_do_not_know() -> None:
    """
    Every section is frozen and closed, a new one as well.
    """
    sections = Section.__subclasses__()

    assert sections
    assert [] == [kind for kind in sections if kind.model_config.get("extra") != "forbid"]
    assert [] == [kind for kind in sections if not kind.model_config.get("frozen")]
