"""Files that are there as a whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO


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
