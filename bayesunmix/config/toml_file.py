"""TOML files that users write."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from bayesunmix.core.errors import InputError

# A configuration with everything in it has some 20 kB.
LARGEST_FILE = 200_000


def read_toml(path: Path, field: str = "config") -> dict[str, Any]:
    """Read a TOML file.

    Parameters
    ----------
    path
        The file.
    field
        What the user knows it as.

    Raises
    ------
    InputError
        If it cannot be read, or is no TOML.
    """
    try:
        size = path.stat().st_size
        if size > LARGEST_FILE or not (path.is_file() or path.is_dir()):
            got = f'"{path}" has {size / 1e3:.0f} kB' if path.is_file() else f'"{path}" is none'
            raise InputError(field, f"be a file of at most {LARGEST_FILE // 1000} kB", got)
        # Some editors put a byte order mark at the beginning.
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except InputError:
        raise
    except OSError as error:
        raise InputError(field, "be a readable file", f'"{path}": {error.strerror}') from None
    except UnicodeDecodeError:
        raise InputError(field, "be a TOML text in UTF-8", f'"{path}" is not') from None
    except RecursionError:
        raise InputError(field, "be valid TOML", f'"{path}" is nested too deeply') from None
    except (
        ValueError
    ) as error:  # tomllib's own error, whole numbers of thousands of digits, days such as 2026-02-30
        raise InputError(field, "be valid TOML", f'"{path}" is not: {error}') from None
