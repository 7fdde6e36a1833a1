"""How much memory there is, and what a run will take: asked before it is taken.

Estimates are lower bounds, from shapes alone: what is refused could not have worked.
"""

from __future__ import annotations

import contextlib
import ctypes
import math
from collections.abc import Iterator
from pathlib import Path

from bayesunmix.core.errors import InputError

_GROUPS = Path("/sys/fs/cgroup")
_OWN_GROUPS = Path("/proc/self/cgroup")
# Rows and columns that a run leaves out stay in memory: its outputs have the full grid.
SMALLER_MAP = "Cut or bin the map before."
FEWER_DRAWS = "Use fewer draws or chains."
# What arrays of a run hold of each posterior draw besides endmembers, in numbers for each phase and element.
_NUMBERS_PER_AMOUNT = 6
_BYTES = 8
# Mean, sd, interval, probability of purity and share of counts of a phase in a pixel in single precision, as they are
# computed and on the grid of the result; and the total, the block and the thickness of the pixel.
_BYTES_PER_SHARE, _BYTES_PER_PIXEL = 2 * 6 * 4, 32
# Arrays that take no more than this share of what is left are held in memory; larger ones are streamed from disk.
HELD_SHARE = 0.25
# `M_ARENA_MAX` of glibc's malloc.h, and arenas that threads share.
_M_ARENA_MAX, _ARENAS = -8, 2
# What the run that is going on may hold, in bytes; the smallest of nested limits.
_limits: list[float] = []


@contextlib.contextmanager
def limited(limit_GB: float | None) -> Iterator[None]:
    """Keep this process below a limit: what is left counts up to there. None is no limit.

    Parameters
    ----------
    limit_GB
        In units of 1e9 bytes.
    """
    if limit_GB is None:
        yield
        return
    _limits.append(1e9 * limit_GB)
    try:
        yield
    finally:
        _limits.pop()


def above_limit(limit_GB: float | None, before: int, peak: int) -> str | None:
    """Say that a run has held more than its limit, or None where it has not.

    Parameters
    ----------
    limit_GB
        In units of 1e9 bytes; None is no limit.
    before, peak
        Most bytes that the process had held when the run began, and now: what an earlier run held is not its own.
    """
    if limit_GB is None or peak <= max(1e9 * limit_GB, before):
        return None
    return (
        f"The run held {peak / 1e9:.2f} GB of memory, more than its limit of {limit_GB:g} GB "
        "(`compute.memory_limit_GB`). Cut or bin the map, or raise the limit."
    )


def held_in_memory(n_bytes: float) -> bool:
    """Whether an array of this size is held in memory; a larger one is kept on disk and read in parts."""
    return n_bytes <= HELD_SHARE * available_bytes()


def available_bytes() -> float:
    """Return the bytes that this process can still take.

    The least of what the machine has left, of what the limits of the process allow (``ulimit -v``, ``ulimit -d``), of
    what its control groups allow, as a batch system or a container sets them, and of the limit of the run
    (``memory_limit_GB``).
    """
    import psutil

    process = psutil.Process().memory_info()
    free = [float(psutil.virtual_memory().available), *_groups()]
    free += [limit - process.rss for limit in _limits]
    with contextlib.suppress(ImportError, AttributeError, OSError, ValueError):
        import resource

        for kind, used in (
            (resource.RLIMIT_AS, process.vms),
            (resource.RLIMIT_DATA, getattr(process, "data", 0)),
        ):
            limit = resource.getrlimit(kind)[0]
            if limit != resource.RLIM_INFINITY:
                free.append(float(limit - used))
    return max(min(free), 0.0)


def give_back() -> None:
    """Return what has been freed to the system, where the C library would keep it for later (glibc)."""
    with contextlib.suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


def few_arenas() -> None:
    """Let threads allocate from the same few arenas (glibc): each of many would keep what its thread has freed.

    For a process that is the program's own, before it has threads: a run of the 71 GPa map holds 1.00 in place of
    1.19 GB at most.
    """
    with contextlib.suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, _ARENAS)


def _groups() -> Iterator[float]:
    """Yield what each control group of this process has left, version 2 and version 1."""
    with contextlib.suppress(OSError, ValueError):
        for line in _OWN_GROUPS.read_text(encoding="utf-8").splitlines():
            _, controllers, name = line.split(":", 2)
            inside = name.lstrip("/")
            if not controllers:
                yield from _left(_GROUPS, inside, "memory.max", "memory.current", "inactive_file")
            elif "memory" in controllers.split(","):
                names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
                yield from _left(_GROUPS / "memory", inside, *names)


def _left(root: Path, inside: str, limit: str, used: str, cache: str) -> Iterator[float]:
    """Yield what a group and those around it have left; pages of files that can be dropped are not counted as used."""
    for folder in dict.fromkeys((root / inside, *(root / inside).parents)):
        if not folder.is_relative_to(root):
            return
        with contextlib.suppress(OSError, ValueError):
            most = int((folder / limit).read_text())  # "max" where there is no limit
            held = int((folder / used).read_text())
            facts = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
            yield float(most - held + int(facts.get(cache, 0)))


def check_room(field: str, needed: float, purpose: str, remedy: str) -> None:
    """Refuse what will not fit into the memory that is left.

    Parameters
    ----------
    field
        What the user can change.
    needed
        Bytes, at least.
    purpose
        What they are for, continuing "needs at least ... for".
    remedy
        A full sentence that says what to do.

    Raises
    ------
    InputError
        If there is less.
    """
    # Asking takes longer than small arrays need.
    if needed < 1e8:
        return
    free = available_bytes()
    if needed > free:
        raise InputError(
            field,
            f"fit into the memory that is left, {free / 1e9:.2g} GB",
            f"needs at least {needed / 1e9:.2g} GB for {purpose}",
            remedy,
        )


def check_counts(shape: tuple[int, ...]) -> None:
    """Refuse a map whose counts will not fit even at one byte each."""
    what = f"its {' x '.join(str(size) for size in shape)} counts"
    check_room("MAP", math.prod(float(size) for size in shape), what, SMALLER_MAP)


def check_mask(n_bytes: int) -> None:
    """Refuse to leave pixels out of a map of whose counts there is no room for a copy."""
    check_room("MAP", float(n_bytes), "its counts without the pixels left out", SMALLER_MAP)


def check_maps(n_pixels: int, n_phases: int) -> None:
    """Refuse a map whose results will not fit: the abundances of every pixel, and what is known of each.

    Parameters
    ----------
    n_pixels
        Of the map.
    n_phases
        At least so many.
    """
    needed = float(n_pixels) * (_BYTES_PER_SHARE * n_phases + _BYTES_PER_PIXEL)
    check_room("MAP", needed, f"the maps of its {n_pixels} pixels", SMALLER_MAP)


def check_draws(n_draws: int, n_phases: int, n_components: int, n_bins: int) -> None:
    """Refuse more draws than will fit: each holds the endmembers and the amounts of all components.

    Parameters
    ----------
    n_draws
        Of all chains together.
    n_phases, n_components, n_bins
        Of the model.
    """
    numbers = n_phases * (n_bins + _NUMBERS_PER_AMOUNT * n_components)
    # They are joined from batches, so that all are there twice for a moment.
    check_room("inference.draws", 2.0 * _BYTES * numbers * n_draws, f"{n_draws} draws", FEWER_DRAWS)


def check_simulation(shape: tuple[int, int], n_phases: int) -> None:
    """Refuse to draw a map whose truth will not fit: the abundances of every pixel, and its thickness."""
    n_pixels = math.prod(float(size) for size in shape)
    what = f"the truth of {' x '.join(str(size) for size in shape)} pixels"
    check_room("simulate.shape", n_pixels * _BYTES * (2 * n_phases + 2), what, "Simulate fewer pixels.")
