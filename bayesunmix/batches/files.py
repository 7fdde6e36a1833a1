"""The files of a batch beside the folders of its maps: three tables, a record and one page."""

from __future__ import annotations

from typing import Any

from bayesunmix import __version__
from bayesunmix.batches.outcome import Batch, Outcome
from bayesunmix.batches.page import batch_page
from bayesunmix.core.output_folder import BATCH_RECORD, names_of, write_record, written_aside

PAGE_FILE = "batch.html"


def write_batch(batch: Batch) -> None:
    """Write ``batch.csv``, ``results.csv``, ``partition.csv``, ``batch.html`` and the record ``batch.json``.

    Parameters
    ----------
    batch
        Its folder is claimed; the files that an earlier call wrote are replaced when all are there.
    """
    tables = {"batch": batch.table, "results": batch.compositions, "partition": batch.partitions}
    with written_aside(batch.folder) as aside:
        for name, table in tables.items():
            table().to_csv(aside / f"{name}.csv", index=False)
        (aside / PAGE_FILE).write_text(batch_page(batch), encoding="utf-8")
        maps = [_record(outcome) for outcome in batch.outcomes]
        files = [*names_of(aside), BATCH_RECORD]
        write_record(aside, {"version": __version__, "maps": maps, "files": files}, BATCH_RECORD)


def _record(outcome: Outcome) -> dict[str, Any]:
    """Return what the record holds of one map."""
    row = outcome.row
    return {
        "name": row.name,
        "map": row.map,
        "config": row.config,
        "signal": row.signal,
        "method": row.method,
        "seed": row.seed,
        # JSON knows no nan.
        "covariates": {name: value if value == value else None for name, value in row.covariates.items()},
        "status": outcome.status,
        "reason": outcome.reason,
        "seconds": outcome.seconds,
        **({} if outcome.verdict is None else outcome.verdict.to_dict()),
    }
