"""Reads that never wait: what the kernel has in memory is had in the event loop (D4).

A trip to a thread costs ten times what a small file in memory does. Linux can be asked for a file on the
condition that it need not wait for a disk or a server: `openat2` with RESOLVE_CACHED (5.12), `preadv2` with
RWF_NOWAIT, which ext4, XFS and Btrfs know and others refuse: tmpfs, and what comes over a network. None is no
error: it means that a thread has to look.
"""

import ctypes
import os

_OPENAT2, _AT_FDCWD, _RESOLVE_CACHED = 437, -100, 0x20  # openat2(2); the same on every architecture


class _How(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


# A pipe or a lease would be waited for, and noting the time of access may wait for the file system's journal.
_HOW = _How(os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOATIME, 0, _RESOLVE_CACHED)
_SIZE = ctypes.sizeof(_How)

_syscall = ctypes.PyDLL(None).syscall  # keeps the interpreter's lock, which a call that waits must not
_syscall.argtypes = (ctypes.c_long, ctypes.c_int, ctypes.c_char_p, ctypes.POINTER(_How), ctypes.c_size_t)
_syscall.restype = ctypes.c_long


def open_file(path: bytes, size: int) -> tuple[int, bytes] | None:
    """A file, open for reading, and as much of its first `size` bytes as is in memory; `fstat` of it waits
    for nothing either.

    None where its name, its inode or its first byte is not in memory, where it belongs to another user, and
    where the kernel or the file system cannot tell.
    """
    fd: int = _syscall(_OPENAT2, _AT_FDCWD, path, _HOW, _SIZE)
    if fd < 0:
        return None
    data = bytearray(size)
    got = read(fd, data, 0)
    if got is None:  # perhaps a network's, which may know a name and have to ask for all else
        os.close(fd)
        return None
    return fd, bytes(data) if got == size else bytes(data[:got])


def able(fd: int) -> bool:
    """Whether the file system of an open file can be asked like that: a network's cannot, and its `open` may
    wait whatever it is asked. In a thread.
    """
    try:
        os.preadv(fd, (bytearray(1),), 0, os.RWF_NOWAIT)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return True


def read(fd: int, buffer: bytearray, place: int) -> int | None:
    """Fill a buffer with the bytes from `place` on, as far as they are in memory without a gap.

    How many came: 0 at the end of the file. None where the first is not in memory.
    """
    try:
        return os.preadv(fd, (buffer,), place, os.RWF_NOWAIT)
    except OSError:
        return None
