"""What the user declares, checked: one frozen dataclass for each table of the configuration file, in a file of its own.

run_config (the file as a whole) <- map (pixels), sample, instrument, xray, phase, inference (methods), output, compute
and simulation <- validated (dataclasses that pydantic checks), values (kinds of values), names; schema (for editors)
"""
