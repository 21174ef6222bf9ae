"""Blobs in a tar: regular files `abc/abc...`, as the folder of a mirror has them (D8)."""

from datetime import datetime
from tarfile import BLOCKSIZE, GNU_FORMAT, USTAR_FORMAT, TarInfo

from soup.core.blob import Blob

LARGEST = 8**11 - 1  # bytes: ustar has no digits for more, so a larger size is written as GNU and BSD tar do
END = bytes(2 * BLOCKSIZE)


def header(blob: Blob, moment: datetime) -> bytes:
    """What stands before the bytes of a blob that was created at this moment, in whole seconds."""
    member = TarInfo(f"{blob.digest.folder}/{blob.digest}")
    member.size, member.mtime = blob.size, int(moment.timestamp())
    return member.tobuf(USTAR_FORMAT if blob.size <= LARGEST else GNU_FORMAT)


def padding(size: int) -> bytes:
    """What stands behind so many bytes."""
    return bytes(-size % BLOCKSIZE)
