"""The line table of a run: the built-in one or the user's, with measured factors."""

from __future__ import annotations

import dataclasses

from bayesunmix.config.run_config import RunConfig
from bayesunmix.xray import Detector, LineTable


def line_table(config: RunConfig, beam_energy_keV: float, detector: Detector) -> LineTable:
    """Return the built-in or the user's line table with measured factors, for the elements that may emit.

    Raises
    ------
    InputError
        If the user's table cannot be read, or does not go with the factors.
    """
    sample = config.sample
    if config.xray.table is None:
        emitting = dict.fromkeys((*sample.elements, *sample.stray, "O", "Si"))
        table = LineTable.built_in(beam_energy_keV, emitting)
    else:
        table = LineTable.from_json(config.xray.table)
    table = dataclasses.replace(table, priors=config.priors)
    return with_factors(table, config, detector)


def with_factors(table: LineTable, config: RunConfig, detector: Detector) -> LineTable:
    """Return the table with the measured k- or zeta-factors of the elements that it holds."""
    k_factors, zeta_factors = (
        {key: value for key, value in factors.items() if key.split("_")[0] in elements}
        for factors, elements in (
            (config.xray.k_factors, config.sample.elements),
            (config.xray.zeta_factors, table.elements),
        )
    )
    if config.xray.zeta_factors:
        return table.with_zeta_factors(zeta_factors, detector.efficiency)
    return table.with_k_factors(k_factors, detector.efficiency) if k_factors else table
