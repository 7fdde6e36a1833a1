"""Files that are there as a whole or not at all."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

# What HDF5 adds to the numbers in bytes: names, attributes and the trees that find them.
HDF5_OVERHEAD = 500_000


@contextmanager
def whole_file(path: Path) -> Iterator[IO[bytes]]:
    """Write aside and rename at the end: a kill or an error leaves either the whole new file or what was there before.

    Parameters
    ----------
    path
        File to be written, in bytes.
    """
    aside = path.with_name(f"{path.name}.part")
    try:
        with aside.open("wb") as stream:
            yield stream
        os.replace(aside, path)
    except BaseException:
        # Where the disk is full, the half is in the way.
        with suppress(OSError):
            aside.unlink(missing_ok=True)
        raise


@contextmanager
def swapped_in(path: Path, n_bytes: int) -> Iterator[Path]:
    """Give a name for what a library writes, a file or a folder, which takes the place of `path` at the end.

    An error, a kill or a full disk leave what was there before.

    Parameters
    ----------
    path
        File or folder to be replaced, or new.
    n_bytes
        Numbers in it, at most: see `check_space`.
    """
    with tempfile.TemporaryDirectory(
        prefix=".bayesunmix-", dir=path.parent, ignore_cleanup_errors=True
    ) as aside:
        new = Path(aside) / path.name
        check_space(new, n_bytes)
        yield new
        if path.is_dir():
            os.replace(path, Path(aside) / "old")
        os.replace(new, path)


def check_space(path: Path, n_bytes: int) -> None:
    """Make sure that the disk takes a file, before HDF5 writes it: out of space in the middle, it ends the process.

    Parameters
    ----------
    path
        File that will be written.
    n_bytes
        Numbers in it; with what HDF5 adds they are asked of the disk and given back, so that quotas and limits count.

    Raises
    ------
    OSError
        If it does not.
    """
    needed = n_bytes + HDF5_OVERHEAD
    probe = path.with_name(f"{path.name}.room")
    try:
        with probe.open("wb") as stream:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(stream.fileno(), 0, needed)
            elif shutil.disk_usage(path.parent).free < needed:  # macOS, Windows
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    finally:
        with suppress(OSError):
            probe.unlink(missing_ok=True)
