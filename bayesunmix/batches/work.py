"""What a worker does: one map into its output folder, or the reason why that failed."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

from bayesunmix.arguments import image_of
from bayesunmix.batches.outcome import Outcome
from bayesunmix.batches.table import MapRow
from bayesunmix.config.compute import LEAST_MEMORY_GB
from bayesunmix.config.run_config import RunConfig
from bayesunmix.core.errors import InputError, failure_text
from bayesunmix.core.log import RunLog, keeping, tell
from bayesunmix.core.memory import few_arenas
from bayesunmix.core.output_folder import read_record
from bayesunmix.core.threads import ONE_MODEL
from bayesunmix.pipeline import run_image
from bayesunmix.prefetch import while_reading
from bayesunmix.results.result import Result


@dataclass(frozen=True, kw_only=True)
class MapJob:
    """One map to be unmixed.

    Parameters
    ----------
    row, config
        What is unmixed, and how.
    out
        Its output folder.
    overwrite
        Replace the result of another run.
    """

    row: MapRow
    config: RunConfig
    out: Path
    overwrite: bool


def unmix_map(job: MapJob) -> Outcome:
    """Unmix a map, or take what an earlier call has finished or begun; whatever goes wrong is said, not raised."""
    begin = time.perf_counter()
    few_arenas()
    earlier = read_record(job.out)
    # A worker of somebody else's may have several threads.
    with ONE_MODEL, warnings.catch_warnings():
        # What is said is in the log of the run; nobody looks at this process.
        warnings.showwarning = lambda *_, **__: None
        with keeping() as log:
            try:
                result = _result(job)
            except Exception as error:
                seconds = time.perf_counter() - begin
                return Outcome(row=job.row, status="failed", reason=_reason(error, job, log), seconds=seconds)
    before = earlier is not None and earlier.get("time") == result.record.time
    return Outcome(
        row=job.row,
        status="done",
        verdict=result.verdict,
        seconds=sum(result.record.timings.values()) if before else time.perf_counter() - begin,
        before=before,
        composition=result.summary(),
        partition=result.tables.partition(),
    )


def _result(job: MapJob) -> Result:
    """Return the result of a map; a folder that holds another run's is replaced where that was allowed."""
    while_reading()
    config = _within_share(job.config)
    image = image_of(job.row.map, config, job.row.signal)
    try:
        return run_image(image, config, job.out, seed=job.row.seed, resume=True, progress=False)
    except InputError as error:
        if error.field != "--resume":
            raise
        if not job.overwrite:
            remedy = "Add --overwrite to replace it, or choose another folder."
            raise InputError("--out", error.must, error.got, remedy) from None
    return run_image(image, config, job.out, seed=job.row.seed, overwrite=True, progress=False)


def _within_share(config: RunConfig) -> RunConfig:
    """Let a run keep to the memory of its worker, where the configuration sets no limit; no number depends on it."""
    from distributed import get_worker

    limit = None
    with contextlib.suppress(ValueError):  # called without a worker
        limit = get_worker().memory_manager.memory_limit
    if limit is None or config.compute.memory_limit_GB is not None:
        return config
    share = max(limit / 1e9, LEAST_MEMORY_GB)
    return dataclasses.replace(config, compute=dataclasses.replace(config.compute, memory_limit_GB=share))


def _reason(error: Exception, job: MapJob, log: RunLog) -> str:
    """Say why a map failed; what the user did not cause has its traceback in the log of the map's folder."""
    if isinstance(error, InputError):
        tell(logging.ERROR, str(error))
        return str(error)
    tell(logging.ERROR, "The run failed.", error)
    if log.path is None:
        with contextlib.suppress(OSError):
            job.out.mkdir(parents=True, exist_ok=True)
            log.settle(job.out)
    where = log.rescue()
    return failure_text(error) + (f"; details are in {where}" if where else "")
