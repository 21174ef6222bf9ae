"""Small files out of a tar that is still coming."""

import tarfile
from collections.abc import AsyncIterator

BLOCK = tarfile.BLOCKSIZE


class BadBundle(Exception):
    """It is no tar, or ended before its end."""


async def members(pieces: AsyncIterator[bytes], largest: int) -> AsyncIterator[tuple[str, bytes]]:
    """The last part of each name, and the bytes. Raises BadBundle."""
    buffer = bytearray()
    ended = False

    async def more(count: int) -> None:
        nonlocal ended
        while len(buffer) < count:
            try:
                buffer.extend(await anext(pieces))
            except StopAsyncIteration as error:
                ended = True
                raise BadBundle("it ended in the middle") from error

    while True:
        await more(BLOCK)
        head = bytes(buffer[:BLOCK])
        if head == tarfile.NUL * BLOCK:
            return
        try:
            member = tarfile.TarInfo.frombuf(head, "utf-8", "strict")
        except (tarfile.HeaderError, UnicodeDecodeError) as error:
            raise BadBundle(str(error)) from error
        if not member.isreg() or not 0 <= member.size <= largest:
            raise BadBundle(f"{member.name!r} is no small file")
        padded = -(-member.size // BLOCK) * BLOCK
        await more(BLOCK + padded)
        data = bytes(buffer[BLOCK : BLOCK + member.size])
        del buffer[: BLOCK + padded]
        yield member.name.rpartition("/")[2], data
