"""Small files out of a tar that is still coming."""

import io
import tarfile
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as some
from soup_cdn_agent.tar import BadBundle, members


def bundle(files: list[tuple[str, bytes]]) -> bytes:
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in files:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return written.getvalue()


async def coming(data: bytes, piece: int) -> AsyncIterator[bytes]:
    for start in range(0, len(data), piece):
        yield data[start : start + piece]


async def read(data: bytes, piece: int = 1000, largest: int = 10_000) -> list[tuple[str, bytes]]:
    return [member async for member in members(coming(data, piece), largest)]


@given(some.lists(some.binary(max_size=3000), max_size=8), some.integers(1, 5000))
async def test_every_file_comes_out_whatever_the_pieces(files: list[bytes], piece: int) -> None:
    """
    Names and bytes, in order, however the network cuts them.
    """
    named = [(f"{place}", data) for place, data in enumerate(files)]

    assert named == await read(bundle([(f"abc/{name}", data) for name, data in named]), piece)


async def test_a_tar_that_is_cut_off_is_no_tar() -> None:
    """
    Half a file is never given out as one.
    """
    whole = bundle([("abc/a", b"x" * 2000), ("abc/b", b"y" * 2000)])
    seen = members(coming(whole[:4000], 100), 10_000)

    assert ("a", b"x" * 2000) == await anext(seen)
    with pytest.raises(BadBundle):
        await anext(seen)


async def test_a_page_of_html_is_no_tar() -> None:
    """
    A proxy that answers 200 with a page of its own fills no mirror.
    """
    with pytest.raises(BadBundle):
        await read(b"<html>" + b"sorry " * 200)


async def test_more_than_was_asked_for_is_refused_before_it_is_read() -> None:
    """
    A member that says it is large would be kept in memory.
    """
    with pytest.raises(BadBundle, match="no small file"):
        await read(bundle([("abc/a", b"x" * 2000)]), largest=1999)


async def test_only_files_are_taken() -> None:
    """
    A link could point anywhere.
    """
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        member = tarfile.TarInfo("abc/a")
        member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(member)

    with pytest.raises(BadBundle):
        await read(written.getvalue())
