"""Which store a folder is (D15)."""

import json
import os
import uuid
from pathlib import Path

from soup.core.errors import Refused, WrongStore
from soup.stores.disk import sync_folder
from soup.stores.local import SPOOL

FILE = "soup-store.json"
LAYOUT = 1


def read(folder: Path) -> str | None:
    """The uuid of the store in this folder; None where there is none.

    Raises WrongStore for a layout that is not ours.
    """
    try:
        with (folder / FILE).open(encoding="utf-8") as file:
            written = json.load(file)
        name, layout = str(uuid.UUID(written["uuid"])), written["layout"]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise WrongStore(f"{folder / FILE} cannot be read: {error}. Restore it from a backup") from error
    if layout != LAYOUT:
        raise WrongStore(
            f"{folder} has layout {layout}, this soup knows {LAYOUT}. Use the release that wrote it, or newer"
        )
    return name


def settle(folder: Path, known: str | None) -> str:
    """The uuid of the store in this folder, made now if both the folder and the database are new.

    `known` is the uuid the database has. Raises WrongStore when the folder is another store or none, Refused
    when it cannot be written.
    """
    here = read(folder)
    if known is not None:
        if here == known:
            _writable(folder)
            return known
        found = "has no store in it" if here is None else f"is store {here}"
        raise WrongStore(
            f"the database belongs to store {known}, but {folder} {found}. Mount the right folder (it has a "
            f"{FILE} with that uuid), or name it with store.folder"
        )
    _writable(folder)
    if here is not None:
        return here
    here = str(uuid.uuid4())
    new = folder / f"{FILE}.new"
    with new.open("w", encoding="utf-8") as file:
        json.dump({"uuid": here, "layout": LAYOUT}, file)
        file.flush()
        os.fsync(file.fileno())
    new.rename(folder / FILE)
    sync_folder(folder)
    return here


def _writable(folder: Path) -> None:
    try:
        (folder / SPOOL).mkdir(parents=True, exist_ok=True)
        probe = folder / SPOOL / f"probe.{os.getpid()}"
        probe.touch()
        probe.unlink(missing_ok=True)  # the sweep of a soup that runs may have been here
    except OSError as error:
        raise Refused(f"cannot write to {folder}: {error.strerror or error}") from error
