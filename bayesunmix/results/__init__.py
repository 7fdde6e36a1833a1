"""The result of a run: its tree of draws, maps and spectra, its record, its tables, and the verdict on it.

finished: what the stages came to -> assemble: groups, mass_thickness, recording, doubts -> verdict -> result (tables)
doubts: of the search, the phases and the spectra
record, record_parts: the type of run.json; earlier_layouts: how older ones are read; saved: whether posterior.nc holds
what a run writes; run_facts: what a run depends on
"""
