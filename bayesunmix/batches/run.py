"""A batch of maps from its table to the tables and the page of all results.

What is finished is not computed again, what was begun goes on, and a map that fails stops no other.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from bayesunmix.batches.files import write_batch
from bayesunmix.batches.outcome import Batch, Outcome
from bayesunmix.batches.table import Defaults, read_rows
from bayesunmix.batches.work import MapJob, unmix_map
from bayesunmix.cluster.spread import LostWorkerError, spread
from bayesunmix.cluster.workers import workers
from bayesunmix.config.cluster import AnyCluster, ClusterConfig
from bayesunmix.config.names import METHODS, MethodName
from bayesunmix.config.run_config import RunConfig
from bayesunmix.core.errors import (
    InputError,
    check_choice,
    check_flag,
    check_integer,
    check_path,
    check_seed,
    failure_text,
)
from bayesunmix.core.log import aside, logged, settle, tell
from bayesunmix.core.output_folder import (
    BATCH_RECORD,
    NO_RESULT,
    RECORD,
    check_folder,
    claimed,
    read_record,
    write_record,
)
from bayesunmix.core.progress import Reporter, write_line
from bayesunmix.results.run_facts import versions

if TYPE_CHECKING:
    import os

    import pandas as pd


@logged
def batch(
    table: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | pd.DataFrame,
    out: str | os.PathLike[str],
    *,
    config: str | os.PathLike[str] | None = None,
    cluster: AnyCluster | None = None,
    method: MethodName | None = None,
    seed: int = 0,
    signal: int | None = None,
    overwrite: bool = False,
    progress: bool = True,
) -> Batch:
    """Unmix many maps over worker processes, each into a folder of its own.

    The same call goes on where an earlier one was stopped, and computes nothing twice.

    Parameters
    ----------
    table
        A CSV file or a pandas table with the columns ``map``, ``config``, ``name``, ``signal``, ``method``, ``seed``
        (``map`` alone is needed) and any others as covariates; or maps, by a pattern such as ``maps/*.hspy`` or a list
        of names.
    out
        Folder for all of it; new, empty, or that of an earlier batch.
    config, method, seed, signal
        For maps of which the table does not say it; `method` replaces `inference.method`.
    cluster
        Where the workers run: the keys of the table ``[cluster]``, or the name of a file that holds it; one worker for
        each core of this machine when left out.
    overwrite
        Replace results of other configurations, maps or versions that lie in the folders of these maps.
    progress
        Show progress.

    Returns
    -------
    Batch
        Every map with its result, or the reason why it has none.

    Raises
    ------
    InputError
        If table, cluster or folder cannot be used; nothing has been computed then.

    Examples
    --------
    >>> import bayesunmix as bu
    >>> batch = bu.batch("series.csv", "series", config="run.toml")  # doctest: +SKIP
    >>> bu.compare(
    ...     list(batch.results.values()), names=list(batch.results), covariate=batch.covariate("pressure_GPa")
    ... )  # doctest: +SKIP
    """
    defaults = Defaults(
        config=None if config is None else _there("--config", config),
        signal=None if signal is None else check_integer("signal", signal, low=0),
        method=None if method is None else check_choice("method", method, METHODS),  # type: ignore[arg-type]
        seed=check_seed(seed),
    )
    where = ClusterConfig.of(cluster)
    replaces, shown = check_flag("overwrite", overwrite), check_flag("progress", progress)
    rows = read_rows(table, defaults)
    folder = check_path("--out", out).absolute()
    _check_out(folder)
    with claimed(folder):
        if read_record(folder, BATCH_RECORD) is None:
            # Says whose the folder is, from the first map on.
            write_record(folder, {"maps": [row.name for row in rows], "files": []}, BATCH_RECORD)
        settle(folder, versions())
        outcomes = {row.name: Outcome(row=row) for row in rows}
        with ExitStack() as stack:
            # However it ends: what has become known is in the tables.
            stack.callback(_write_known, folder, outcomes)
            _unmix_all(folder, outcomes, where, overwrite=replaces, shown=shown)
    return _batch(folder, outcomes)


def _write_known(folder: Path, outcomes: Mapping[str, Outcome]) -> None:
    if any(outcome.status != "waiting" for outcome in outcomes.values()):
        write_batch(_batch(folder, outcomes))


def _batch(folder: Path, outcomes: Mapping[str, Outcome]) -> Batch:
    return Batch(folder, tuple(outcomes.values()))


def _there(field: str, value: object) -> Path:
    path = check_path(field, value)
    if not path.is_file():
        raise InputError(field, "be a file that is there", f'"{path}" is not')
    return path.absolute()


def _check_out(folder: Path) -> None:
    """Refuse a folder that belongs to something else."""
    check_folder(folder, go_on=True)
    if not folder.is_dir() or read_record(folder, BATCH_RECORD) is not None:
        return
    if any(path.name not in NO_RESULT for path in folder.iterdir()):
        what = "holds the result of a single map" if (folder / RECORD).is_file() else "holds other things"
        must = "be a new or empty folder, or that of an earlier batch"
        raise InputError("--out", must, f'"{folder}" {what}', "Choose another.")


def _unmix_all(
    folder: Path,
    outcomes: dict[str, Outcome],
    cluster: ClusterConfig,
    *,
    overwrite: bool,
    shown: bool,
) -> None:
    """Fill in what became of every map, as it becomes known."""
    reporter = Reporter(shown)

    def known(outcome: Outcome) -> None:
        outcomes[outcome.row.name] = outcome
        tell(logging.INFO, outcome.line())
        if shown:
            with aside():
                write_line(outcome.line())
        reporter.advance(sum(one.status != "waiting" for one in outcomes.values()) / len(outcomes))

    @cache
    def wait() -> None:
        tell(logging.INFO, "waiting for a worker")
        if shown:
            with aside():
                write_line("waiting for a worker")

    # Maps that share a file share its reading, and what it warns of.
    config_of = cache(read_config)
    n_maps = len(outcomes)
    with reporter.stage(f"{n_maps} {'map' if n_maps == 1 else 'maps'}"):
        jobs = []
        for row in [one.row for one in outcomes.values()]:
            config = config_of(row.config, row.method)
            if isinstance(config, InputError):
                known(Outcome(row=row, status="failed", reason=f"{row.config}: {config}"))
            else:
                jobs.append(MapJob(row=row, config=config, out=folder / row.name, overwrite=overwrite))
        if not jobs:
            return
        with workers(cluster, len(jobs), {}) as client:
            for ended in spread(unmix_map, jobs, client, wait):
                row = jobs[ended.place].row
                known(ended.found or Outcome(row=row, status="failed", reason=_lost(ended.error)))


def read_config(path: Path, method: MethodName | None) -> RunConfig | InputError:
    """Return a configuration, or why it cannot be used: that is a failure of its maps, not of the batch."""
    try:
        return RunConfig.from_toml(path, method)
    except InputError as error:
        return error


def _lost(error: BaseException | None) -> str:
    """Say why a worker gave no outcome."""
    return str(error) if isinstance(error, LostWorkerError) else failure_text(error or RuntimeError())
