"""The measured map: read from a file, looked at, and cut into bins.

io -> reader (a process of its own) -> files (HyperSpy) -> signals, facts -> image (counts, axis, acquisition)
-> inspection (peaks, peak_sources) -> binning; plain_map has counts alone
"""
