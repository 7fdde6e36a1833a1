"""Run commands one after the other in this process, and say what was compiled, what was computed, and how fast.

python watched_worker.py JOB, where JOB is JSON:

    {"commands": [["unmix", MAP, "--config", FILE, "--out", FOLDER], ...],
     "work": true,           count the matrix products of every stage
     "rates": true}          measure the device's matrix rate, and the gradient at the mode that was found last

The last line of the answer is JSON, see `main`.

A value and gradient of the potential is two matrix products: counts (block, energy) times log spectra of the support
points (energy, support_point), and back, responsibilities (support_point, block) times counts. With B blocks, C
energies (columns for the thickness included) and S support points of a block, padding included,

    FLOP = 2 x 2 B C S      summed over the chunks of blocks

The likelihood of blocks or pixels at support points is one product. Nothing else is counted (curvature, factorisation
of small matrices, figures, files): FLOP over the rate is less than any program could take.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from bench import FINISHED

# Whichever comes first: so many calls, or so many seconds of them.
MOST_CALLS, MOST_SECONDS = 200, 3.0
# Side of the square matrices whose product gives a device's rate: a CPU takes 0.1 s for it, a large card 10 ms.
CPU_SIDE, CARD_SIDE = 2048, 8192
COMPILED = "/jax/core/compile/backend_compile_duration"


@dataclass
class Work:
    """Matrix products of a stage.

    Attributes
    ----------
    evaluations
        Values and gradients of the potential.
    flop
        Of all products that are counted.
    """

    evaluations: float = 0.0
    flop: float = 0.0


class Counter:
    """Counts matrix products by stage, in functions that it is put around."""

    def __init__(self) -> None:
        self.work: defaultdict[str, Work] = defaultdict(Work)
        self._stage = "before the stages"

    def count(self, put: Callable[[Any, str, Any], None] = setattr) -> None:
        """Put itself around the functions of the project that it counts in."""
        import bayesunmix.stages as stages
        from bayesunmix.core.checkpoint import Stages
        from bayesunmix.inference.density import FlatModel
        from bayesunmix.inference.mixture import relative_likelihood

        put(Stages, "run", self.named(Stages.run))
        put(stages, "draw", self.sampled(stages.draw))
        put(FlatModel, "value_and_gradient", self.evaluation(FlatModel.value_and_gradient))
        counting = self.product(relative_likelihood)
        for module in [each for name, each in sys.modules.items() if name.partition(".")[0] == "bayesunmix"]:
            for name, value in list(vars(module).items()):
                if value is relative_likelihood:
                    put(module, name, counting)

    def named(self, run: Callable[..., Any]) -> Callable[..., Any]:
        """Note which stage it is that runs."""

        def watched(kept: Any, name: str, *arguments: Any) -> Any:  # noqa: ANN401
            self._stage = name
            return run(kept, name, *arguments)

        return watched

    def evaluation(self, value_and_gradient: Callable[..., Any]) -> Callable[..., Any]:
        """Count the values and gradients of a model."""

        def watched(model: Any, z: Any, data: Any) -> Any:  # noqa: ANN401
            placed = model.placed(data)
            self._evaluated(1.0, placed)
            return value_and_gradient(model, z, placed)

        return watched

    def sampled(self, draw: Callable[..., Any]) -> Callable[..., Any]:
        """Count a sampler's steps, which its program makes: kept draws tell theirs, warm-up's are taken as alike."""

        def watched(fitted: Any, job: Any) -> Any:  # noqa: ANN401
            from bayesunmix.inference.nuts import TRANSITIONS

            drawn, method = draw(fitted, job), job.config.inference.engine
            if "n_steps" in drawn.statistics:
                placed = fitted.model.placed(fitted.data)
                trajectories = 1.0 + method.warmup / (TRANSITIONS * method.draws)
                self._evaluated(trajectories * float(drawn.statistics["n_steps"].sum()), placed)
            return drawn

        return watched

    def product(self, likelihood: Callable[..., Any]) -> Callable[..., Any]:
        """Count the product of counts and log spectra of support points."""

        def watched(counts: Any, log_mixed: Any) -> Any:  # noqa: ANN401
            self.work[self._stage].flop += 2.0 * counts.size * len(log_mixed)
            return likelihood(counts, log_mixed)

        return watched

    def _evaluated(self, number: float, placed: Any) -> None:  # noqa: ANN401
        work = self.work[self._stage]
        work.evaluations += number
        work.flop += number * gradient_flop(placed)


def gradient_flop(placed: Any) -> float:  # noqa: ANN401 - a model's data where programs run on them
    """FLOP of one value and gradient: two products for every chunk, as wide as its class."""
    return float(
        sum(4 * number * pixels * columns * width for number, pixels, columns, width in chunk_shapes(placed))
    )


def chunk_shapes(placed: Any) -> list[list[int]]:  # noqa: ANN401
    """Chunks of each class of widths on all devices, and their pixels, energies with columns, and support points."""
    from bayesunmix.models.pixels import widths

    chunks = placed.data.pixels
    numbers = (
        np.diff(np.asarray(chunks.ends), axis=-1, prepend=0).reshape(-1, chunks.ends.shape[-1]).sum(axis=0)
    )
    each = widths(chunks.support_points.shape[-1])
    return [
        [int(number), *chunks.counts.shape[-2:], width] for number, width in zip(numbers, each, strict=True)
    ]


def matrix_rate(precision: str | None = None) -> float:
    """FLOP per second of a float32 product of square matrices, as JAX multiplies them here."""
    side = CPU_SIDE if jax.default_backend() == "cpu" else CARD_SIDE
    first, second = jax.random.uniform(jax.random.PRNGKey(0), (2, side, side), jnp.float32)
    product = jax.jit(lambda a, b: jnp.matmul(a, b, precision=precision))
    return 2.0 * side**3 / fastest(lambda: product(first, second))


def gradient(fitted: Any) -> dict[str, Any]:  # noqa: ANN401 - a FittedPosterior
    """Seconds and FLOP of one value and gradient at the mode."""
    model, z = fitted.model, fitted.estimate.z
    placed = model.placed(fitted.data)
    return {
        "parameters": len(z),
        "shapes": chunk_shapes(placed),
        "flop": gradient_flop(placed),
        "seconds": fastest(lambda: model.value_and_gradient(z, placed)),
    }


def fastest(call: Callable[[], Any]) -> float:
    """Seconds of the fastest of many calls, the first of which compiles and does not count."""
    jax.block_until_ready(call())
    found, begin = [], time.perf_counter()
    while len(found) < MOST_CALLS and (not found or time.perf_counter() - begin < MOST_SECONDS):
        start = time.perf_counter()
        jax.block_until_ready(call())
        found.append(time.perf_counter() - start)
    return min(found)


def main(job: dict[str, Any]) -> dict[str, Any]:
    """Run the commands.

    Returns
    -------
    For each of ``commands`` its ``seconds``, ``cpu_seconds``, ``compilations`` (seconds of each; a program that is read
    from the cache counts with what that took) and ``work`` by stage; for the process its ``devices`` and ``platform``,
    ``device_peak_bytes`` of the first where it tells, and, if asked for, ``rate`` and ``full_rate`` in FLOP/s (float32
    as JAX multiplies it by default, and in full single precision) and the ``gradient`` at the last mode.
    """
    seconds: list[float] = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, duration, **_: seconds.append(duration) if event == COMPILED else None
    )
    counter, modes = Counter(), []
    if job.get("work"):
        counter.count()
    if job.get("rates"):
        keep_modes(modes)
    done = []
    for command in job["commands"]:
        before = len(seconds)
        done.append(run(command))
        done[-1] |= {
            "compilations": seconds[before:],
            "work": {name: asdict(work) for name, work in counter.work.items()},
        }
        counter.work.clear()
    answer = {
        "commands": done,
        "platform": jax.default_backend(),
        "devices": [f"{device.device_kind} ({device})" for device in jax.devices()],
        "device_peak_bytes": (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use"),
    }
    if job.get("rates"):
        answer |= {
            "rate": matrix_rate(),
            "full_rate": matrix_rate("highest"),
            "gradient": gradient(modes[-1]),
        }
    return answer


def keep_modes(modes: list[Any]) -> None:
    """Keep the mode that every run finds."""
    import bayesunmix.stages as stages

    find_mode = stages.find_mode

    def kept(*arguments: Any) -> Any:  # noqa: ANN401
        setup, fitted = find_mode(*arguments)
        modes.append(fitted)
        return setup, fitted

    stages.find_mode = kept


def run(command: list[str]) -> dict[str, Any]:
    """Run a command of bayesunmix; seconds on the clock, and of the processor.

    Raises
    ------
    RuntimeError
        If it does not finish.
    """
    from bayesunmix.cli import main as bayesunmix

    begin, cpu = time.perf_counter(), sum(os.times()[:4])
    try:
        bayesunmix(command)
    except SystemExit as ended:
        if ended.code not in FINISHED:
            raise RuntimeError(f"{command[0]}: exit {ended.code}") from None
    return {"seconds": time.perf_counter() - begin, "cpu_seconds": sum(os.times()[:4]) - cpu}


if __name__ == "__main__":
    with redirect_stdout(sys.stderr):
        answer = main(json.loads(sys.argv[1]))
    print(json.dumps(answer))
