"""What became of one map of a batch, and of all of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from bayesunmix.batches.table import MapRow
from bayesunmix.core.attached import Attached
from bayesunmix.core.errors import InputError, suggest
from bayesunmix.core.summary import Summarised, Summary
from bayesunmix.results.result import Result, open_result
from bayesunmix.results.verdict import Level, Verdict

if TYPE_CHECKING:
    import pandas as pd

# Exit status where some maps failed.
SOME_FAILED = 1
Status = Literal["done", "failed", "waiting"]


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Outcome(Summarised):
    """What became of one map.

    Parameters
    ----------
    row
        As the table has it.
    status
        ``done``, ``failed``, or ``waiting`` where the batch was stopped before.
    verdict
        Of its result; None where there is none.
    reason
        Why it failed.
    seconds
        From the map to the last file; of one that was finished before, of the stages of its run.
    before
        Whether an earlier call had finished it.
    composition, partition
        The tables of its result; None where there is none.
    """

    row: MapRow
    status: Status = "waiting"
    verdict: Verdict | None = None
    reason: str = ""
    seconds: float = 0.0
    before: bool = False
    composition: pd.DataFrame | None = None
    partition: pd.DataFrame | None = None

    @property
    def why(self) -> str:
        """Why the map failed, or what speaks against its result."""
        if self.verdict is None:
            return self.reason
        return " ".join(self.verdict.texts("distrust") or self.verdict.texts("reservation"))

    def _summary(self) -> Summary:
        return Summary(self.line(), lines=() if self.verdict is None else tuple(self.verdict.lines()[1:]))

    def line(self) -> str:
        """Say on one line how it went."""
        if self.verdict is None:
            return f"{self.row.name}: {self.status}" + (f": {self.reason}" if self.reason else "")
        took = "finished before" if self.before else f"{self.seconds:.0f} s"
        return f"{self.row.name}: {self.verdict.words}, {took}"


class Results(Mapping[str, Result]):
    """The results of a batch by name, each opened when it is asked for, and not kept.

    Parameters
    ----------
    folders
        Output folders by the name of the map.
    """

    def __init__(self, folders: Mapping[str, Path]) -> None:
        self._folders = dict(folders)

    def __getitem__(self, name: str) -> Result:
        if name not in self._folders:
            must = "be a map of the batch that has a result"
            raise InputError("name", must, f'is "{name}"', suggest(name, self._folders))
        return open_result(self._folders[name])

    def __contains__(self, name: object) -> bool:
        return name in self._folders

    def __iter__(self) -> Iterator[str]:
        return iter(self._folders)

    def __len__(self) -> int:
        return len(self._folders)

    def __repr__(self) -> str:
        return f"Results of {len(self)} maps: {', '.join(self)}"


@dataclass(frozen=True, eq=False, repr=False)
class Batch:
    """Many maps, each with its result or the reason why it has none.

    Parameters
    ----------
    folder
        Holds an output folder for each map, and the tables and the page of all.
    outcomes
        In the order of the table.
    """

    folder: Path
    outcomes: tuple[Outcome, ...]

    @property
    def done(self) -> tuple[Outcome, ...]:
        """Those that have a result."""
        return tuple(outcome for outcome in self.outcomes if outcome.verdict is not None)

    @property
    def results(self) -> Results:
        """Results by name, each opened when it is asked for: ``batch.results["map 3"]``."""
        return Results({outcome.row.name: self.folder / outcome.row.name for outcome in self.done})

    @property
    def failures(self) -> dict[str, str]:
        """Why each map that failed did so, by its name."""
        return {one.row.name: one.reason for one in self.outcomes if one.status == "failed"}

    @property
    def distrusted(self) -> tuple[Outcome, ...]:
        """Those whose result is not to be trusted."""
        return tuple(
            one for one in self.done if one.verdict is not None and one.verdict.level == Level.DISTRUST
        )

    @property
    def exit_status(self) -> int:
        """Of the command: 1 if a map failed, else 3 if a result is not to be trusted, else 0."""
        return SOME_FAILED if self.failures else Level.DISTRUST.exit_status if self.distrusted else 0

    @property
    def headline(self) -> str:
        """How many maps there are, and how they went."""
        words = [one.status if one.verdict is None else one.verdict.words for one in self.outcomes]
        order = [*(level.words for level in Level), "failed", "waiting"]
        counted = Counter(words)
        parts = [f"{counted[word]} {word}" for word in order if counted[word]]
        return f"{len(words)} {'map' if len(words) == 1 else 'maps'}: {', '.join(parts)}"

    def covariate(self, name: str) -> dict[str, list[Any]]:
        """Return a column of the table for the maps that have a result, as `bayesunmix.compare` takes it.

        Raises
        ------
        InputError
            If the table has no such column.
        """
        known = self.outcomes[0].row.covariates
        if name not in known:
            must = f"be a covariate of the table: {', '.join(known) or 'it has none'}"
            raise InputError("name", must, f'is "{name}"', suggest(name, known))
        return {name: [outcome.row.covariates[name] for outcome in self.done]}

    def table(self) -> pd.DataFrame:
        """Return a row for each map, the columns of ``batch.csv``."""
        import pandas as pd

        rows = [
            {
                "name": one.row.name,
                **one.row.covariates,
                "map": str(one.row.map),
                "config": str(one.row.config),
                "status": one.status,
                "verdict": "" if one.verdict is None else one.verdict.level.value,
                "reason": one.why,
                "seconds": round(one.seconds, 1),
            }
            for one in self.outcomes
        ]
        return pd.DataFrame(rows)

    def compositions(self) -> pd.DataFrame:
        """Return the compositions of all results, the columns of ``results.csv``."""
        return self._together("composition")

    def partitions(self) -> pd.DataFrame:
        """Return the partition coefficients of all results, the columns of ``partition.csv``."""
        return self._together("partition")

    def _together(self, name: str) -> pd.DataFrame:
        """Return the tables of all results one below the other, each with the map's name and covariates before it."""
        import pandas as pd

        found = []
        for outcome in self.done:
            table = getattr(outcome, name).copy()
            for place, (column, value) in enumerate(
                {"name": outcome.row.name, **outcome.row.covariates}.items()
            ):
                table.insert(place, column, value)
            found.append(table)
        return pd.concat(found, ignore_index=True) if found else pd.DataFrame(columns=["name"])

    def __repr__(self) -> str:
        lines = [self.headline, *(f"  {outcome.line()}" for outcome in self.outcomes), f"  in {self.folder}"]
        return "\n".join(lines)

    _repr_html_ = Attached()
