"""Looking through the folder of a full mirror."""

import os
from pathlib import Path

from soup_cdn_agent.folder import Folder
from soup_cdn_agent.index import Index
from soup_cdn_agent.known import Known, Threads
from soup_cdn_agent.scan import Scan

from tests.conftest import sha256


async def test_strays_while_a_list_is_read(tmp_path: Path) -> None:
    """
    A list that came while the folder was looked through may be of a core that has lost its memory: nothing
    goes by what was counted until then, and all is looked at once more.
    """
    data = os.urandom(100)
    place = tmp_path / sha256(data)[:3]
    place.mkdir()
    (place / sha256(data)).write_bytes(data)
    folder, known, threads = Folder(tmp_path, 0), Known(), Threads()
    folder.open()
    index = Index(folder.own / "index.db")
    scan = Scan(index, folder, threads, known, "remove")
    try:
        known.merging = False
        known.scan.ring()
        await scan.once()
        assert [data] == [file.read_bytes() for file in place.iterdir()]
        assert not known.scanned

        assert await known.scan.heard(1)
        await scan.once()
        assert [] == [*place.iterdir()]
        assert known.scanned
    finally:
        threads.close()
        index.close()
        folder.close()
