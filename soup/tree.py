"""What the settings file and the environment say, before anybody knows what of it is a setting (D16).

A YAML file (`--config`, `SOUP_CONFIG`) with `${NAME}` for values of the environment; over it
`SOUP_SECTION__KEY`, with as many sections as there are; and the plain names SOUP_DATA, SOUP_DATABASE and
SOUP_CONFIG.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from soup.core.errors import Refused

PLAIN = {"SOUP_DATA": "data", "SOUP_DATABASE": "database"}
FILE = "SOUP_CONFIG"
_KEY = re.compile("SOUP_([A-Z0-9]+(?:_[A-Z0-9]+)*)__([A-Z0-9_]+)")
_QUOTED = re.compile(r"""('<[^']*>'|'\\?.')|(['"]).+\2""")
_STEP = re.compile("(?<=[A-Z0-9])__(?=[A-Z0-9])")


def unknown(environment: Mapping[str, str]) -> list[str]:
    """Names that look meant for soup and are not: worth a warning.

    Kubernetes sets some for a service called soup.
    """
    known = {FILE, *PLAIN}
    return sorted(
        n for n in environment if n.startswith("SOUP_") and not _KEY.fullmatch(n) and n not in known
    )


def override(tree: dict[str, Any], environment: Mapping[str, str], faults: list[str]) -> dict[str, str]:
    """Put the environment over the tree; which variable each path comes from."""
    given: dict[str, str] = {}
    for name, value in environment.items():
        if name in PLAIN and value:
            tree[PLAIN[name]] = value
            given[PLAIN[name]] = name
        elif found := _KEY.fullmatch(name):
            *sections, key = (step.lower() for step in (found[1], *_STEP.split(found[2])))
            branch = _branch(tree, sections)
            if isinstance(branch, dict):
                branch[key] = value
                given[".".join([*sections, key])] = name
            else:
                faults.append(f"{name}: {branch} is no section")
    return given


def _branch(tree: dict[str, Any], sections: list[str]) -> dict[str, Any] | str:
    """The section of this path, made where it is not there; the path of what stands in its place."""
    branch = tree
    for depth, step in enumerate(sections, start=1):
        inner = branch[step] = {} if branch.get(step) is None else branch[step]
        if not isinstance(inner, dict):
            return ".".join(sections[:depth])
        branch = inner
    return branch


class _Fault(yaml.MarkedYAMLError):
    """Found by soup itself: what it quotes may be said."""


class _Loader(yaml.SafeLoader):
    """YAML in which a key stands once: of two sections of one name the first would be lost without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002 - as in the base
        seen: set[str] = set()
        for key, _ in node.value:
            if key.value in seen:
                raise _Fault(problem=f"{key.value!r} stands there twice", problem_mark=key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:  # noqa: FBT001, FBT002 - as in the base
        try:
            return super().construct_object(node, deep)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            # PyYAML lets through what int() and date() raise, without the place and with the value.
            problem = f"this cannot be read as {node.tag.rpartition(':')[2]}"
            raise _Fault(problem=problem, problem_mark=node.start_mark) from error


def read(file: Path, environment: Mapping[str, str], faults: list[str]) -> dict[str, Any]:
    """What the file says. Raises Refused where it cannot be read, or is no tree."""
    try:
        written = yaml.load(file.read_text(encoding="utf-8"), _Loader)  # noqa: S506 - it is a SafeLoader
        filled = _fill({} if written is None else written, environment, faults)
    except OSError as error:
        raise Refused(f"{file}: {error.strerror}") from error
    except yaml.MarkedYAMLError as error:
        raise Refused(f"{file}: not YAML: {_problem(error)}") from error
    except Exception as error:  # depth has no other end
        raise Refused(f"{file}: not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(filled, dict):
        raise Refused(f"{file}: sections with keys are wanted, not {type(filled).__name__}")
    tree: dict[str, Any] = filled
    return tree


def _problem(error: yaml.MarkedYAMLError) -> str:
    """What is wrong and where. Not the line itself, which PyYAML shows: a password may be in it."""
    told = [(error.problem, error.problem_mark), (error.context, error.context_mark)]
    return ", ".join(
        f"{text if isinstance(error, _Fault) else _veiled(text)}{_place(mark)}" for text, mark in told if text
    )


def _place(mark: yaml.Mark | None) -> str:
    return "" if mark is None else f" (line {mark.line + 1}, column {mark.column + 1})"


def _veiled(text: str) -> str:
    """Without what is quoted of the file, but for single characters; PyYAML's own <words> stay as well."""
    return _QUOTED.sub(lambda found: found[1] or "...", text)


def _fill(value: Any, environment: Mapping[str, str], faults: list[str]) -> Any:
    if isinstance(value, dict):
        return {key: _fill(inner, environment, faults) for key, inner in value.items()}
    if isinstance(value, list):
        return [_fill(inner, environment, faults) for inner in value]
    if not isinstance(value, str):
        return value

    def of(found: re.Match[str]) -> str:
        if found[1] not in environment:
            faults.append(f"{found[0]} is not in the environment")
        return environment.get(found[1], "")

    return re.sub(r"\$\{(\w+)\}", of, value)
