"""A result that is looked at, and the counts of its map, which are read when they are needed."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bayesunmix.analysis.comparison import folder_names
from bayesunmix.analysis.joint_draws import JointDraws, joint_draws
from bayesunmix.core.errors import InputError, shown
from bayesunmix.data.image import SpectrumImage
from bayesunmix.data.io import load
from bayesunmix.results.map_counts import AnyMap, stored_pixels
from bayesunmix.results.result import Result, open_result

# Pages of several browsers share what is read.
_READING = threading.Lock()


@dataclass(frozen=True, eq=False)
class Opened:
    """A run that is looked at.

    Parameters
    ----------
    name
        By which the user chooses it.
    result
        Of the run.
    image
        The map that was handed over; None for that of the record.
    maps
        Maps that have been read, by file and signal: runs of one map share it.
    """

    name: str
    result: Result
    image: AnyMap | None = None
    maps: dict[Any, SpectrumImage] = field(default_factory=dict)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the map."""
        rows, columns = self.result.tree["maps"]["label"].shape
        return rows, columns

    def source(self) -> JointDraws:
        """Return the counts of the pixels, and what they are drawn from; the map is read at the first call.

        Raises
        ------
        InputError
            If the map is not there or another one, or an earlier version wrote the folder.
        """
        with _READING:
            return self._source()

    def _source(self) -> JointDraws:
        stored_pixels(self.result)
        given: AnyMap | None = self.image
        file, signal = self.result.record.map.file, self.result.record.map.signal
        if isinstance(given, str | Path):
            file, signal = str(given), None
        # That of a result that was just made is at hand; what is no file is said below.
        at_hand = self.result.image is not None and given is None
        if file is not None and not at_hand and not isinstance(given, SpectrumImage) and Path(file).exists():
            if (file, signal) not in self.maps:
                self.maps[file, signal] = load(file, signal)
            given = self.maps[file, signal]
        found = joint_draws(self.result, given)
        # Made once, so that a choice reads only its own pixels.
        _ = found.binned, found.endmembers, found.used
        return found


def opened_results(
    results: Result | Sequence[Result], image: AnyMap | None = None, names: Sequence[str] | None = None
) -> tuple[Opened, ...]:
    """Return what is looked at of some results.

    Raises
    ------
    InputError
        If there is none, or something else is among them.
    """
    given = [results] if isinstance(results, Result) else list(results)
    if not given or any(not isinstance(one, Result) for one in given):
        odd = next((one for one in given if not isinstance(one, Result)), None)
        raise InputError("result", "be a Result or several", f"is {shown(odd)}" if given else "is none")
    for one in given:
        if "maps" not in one.tree.children:
            raise InputError("result", "hold maps", "was put together from draws alone")
    told = list(names) if names is not None else [_name(one, n) for n, one in enumerate(given, 1)]
    maps: dict[Any, SpectrumImage] = {}
    return tuple(Opened(name, one, image, maps) for name, one in zip(told, given, strict=True))


def opened_folders(folders: Sequence[Path], image: Path | None = None) -> tuple[Opened, ...]:
    """Open output folders.

    Raises
    ------
    InputError
        If one is no output folder.
    """
    return opened_results([open_result(folder) for folder in folders], image, folder_names(folders))


def _name(result: Result, number: int) -> str:
    return f"{number}: {result.record.map.name or 'map'}, {result.record.method}"
