"""The result of a run: its tree of draws, maps and spectra, its record, its tables, and the verdict on it.

groups, record, mass_thickness -> assemble (doubts -> verdict) -> result (tables, budget_table); saved, record_shape:
whether a folder that is opened holds what a run writes; run_facts: what a run depends on
"""
