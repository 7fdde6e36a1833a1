"""Compiled programs kept between runs, in the user's cache folder, by JAX's persistent cache.

Programs are made for one kind of processor: a home folder that several kinds of machines share has a folder for each.
What JAX is told elsewhere (``JAX_COMPILATION_CACHE_DIR``, or its configuration) is left as it is.
"""

from __future__ import annotations

import hashlib
import platform
from contextlib import suppress
from pathlib import Path

import jax
from jax.experimental.compilation_cache import compilation_cache
from platformdirs import user_cache_path

from bayesunmix.core.errors import warn

# Reading a program takes a hundredth of a second; what compiles faster need not lie on the disk.
LEAST_SECONDS = 0.02


def keep_programs(limit_GB: float) -> None:
    """Keep the programs that are compiled from now on, and take those that earlier runs have kept.

    Parameters
    ----------
    limit_GB
        Size of the folder in units of 1e9 bytes, beyond which what was not used for longest is deleted; 0 keeps
        nothing.
    """
    folder = cache_folder()
    chosen = jax.config.values["jax_compilation_cache_dir"]
    if chosen not in (None, str(folder)):
        return
    if limit_GB <= 0.0:
        _set(jax_enable_compilation_cache=False)
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        warn(f'Compiled programs are not kept: "{folder}" cannot be made ({error.strerror}).')
        return
    _set(
        jax_enable_compilation_cache=True,
        jax_compilation_cache_max_size=int(limit_GB * 1e9),
        jax_persistent_cache_min_compile_time_secs=LEAST_SECONDS,
        jax_persistent_cache_min_entry_size_bytes=-1,
        jax_compilation_cache_dir=str(folder),
    )
    if chosen is None:
        # Where something has been compiled already, JAX has concluded that nothing is kept.
        compilation_cache.reset_cache()


def _set(**settings: bool | float | str) -> None:
    for name, value in settings.items():
        jax.config.update(name, value)  # type: ignore[no-untyped-call]


def cache_folder() -> Path:
    """Folder of the programs for this kind of processor, e.g. ``~/.cache/bayesunmix/programs-1a2b3c4d``."""
    return Path(user_cache_path("bayesunmix", appauthor=False)) / f"programs-{_processor()}"


def _processor() -> str:
    """Return what tells one kind of processor from another, as a few letters."""
    said = platform.machine() + platform.processor()
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        told = dict(line.split(":", 1) for line in reversed(lines) if ":" in line)
        said += "".join(
            told.get(f"{key}\t\t", told.get(f"{key}\t", "")) for key in ("flags", "Features", "model name")
        )
    return hashlib.sha256(said.encode()).hexdigest()[:8]
