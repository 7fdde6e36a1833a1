"""The measured map: read from a file, and cut into bins.

io -> reader (a process of its own) -> files (HyperSpy) -> signals, facts -> image (counts, axis, acquisition)
-> pixels (crop, rebin, sum) -> binning; plain_map has counts alone
"""
