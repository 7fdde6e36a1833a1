"""The laboratory, where the intervals of a model, an engine or a configuration are tested against known truths.

Nothing in a run needs it. It simulates, infers and compares with the truth, over processes and with every result kept,
so that a study that was stopped goes on. The words are the literature's: *coverage* is how often intervals hold the
truth, *rank statistics* and *simulation-based calibration* (SBC) test a posterior where truths are drawn as it assumes.

To see how well intervals hold for a configuration of your own, give it a ``[simulate]`` table that is like your map
(``bayesunmix simulate`` reads the same one), and let whole runs be compared with what was simulated:

>>> from pathlib import Path
>>> from bayesunmix.config.run_config import RunConfig
>>> from bayesunmix.laboratory.maps import coverage_of, held_share
>>> config = RunConfig.from_toml("mine.toml")                                 # doctest: +SKIP
>>> table, failures = coverage_of(config, range(20), Path("mine_study"))      # doctest: +SKIP
>>> held_share(table)[["quantity", "phase", "element", "held", "of"]]         # doctest: +SKIP

To test an engine or a model of your own, see `bayesunmix.laboratory.replicates` and
`bayesunmix.laboratory.assessment`. `docs/calibration.md` tells what was found for the built-in ones.
"""
