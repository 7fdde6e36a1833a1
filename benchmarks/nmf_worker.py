"""Time scikit-learn's KL-NMF on a map, read by HyperSpy; a process of its own, so that its memory is its own.

python nmf_worker.py MAP.hspy PHASES LOWEST_keV HIGHEST_keV
"""

from __future__ import annotations

import json
import sys
import time
import warnings

warnings.simplefilter("ignore")

import hyperspy.api as hs  # noqa: E402 - its deprecation warnings are not ours
import numpy as np  # noqa: E402
from sklearn.decomposition import NMF  # noqa: E402

# Enough for its own test of convergence, at scikit-learn's default of 1e-4, to end the fit.
MOST_UPDATES = 1000


def main(path: str, phases: int, lowest: float, highest: float) -> dict[str, float]:
    """Return seconds, processor time and number of updates of the factorisation alone, in single precision."""
    counts = hs.load(path).isig[lowest:highest].data
    estimator = NMF(
        n_components=phases,
        init="nndsvda",
        solver="mu",
        beta_loss="kullback-leibler",
        max_iter=MOST_UPDATES,
        random_state=0,
    )
    # A channel without any counts has no scale.
    rows = counts.reshape(-1, counts.shape[-1])
    rows = rows[:, rows.any(axis=0)].astype(np.float32)
    begin, cpu = time.perf_counter(), time.process_time()
    estimator.fit_transform(rows)
    return {
        "iterate": time.perf_counter() - begin,
        "iterate_cpu": time.process_time() - cpu,
        "updates": int(estimator.n_iter_),
    }


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4]))))
