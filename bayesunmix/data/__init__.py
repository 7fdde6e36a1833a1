"""The measured map: read from a file, looked at, and cut into bins.

io -> image (counts, axis, acquisition) -> inspection (peaks, peak_sources) -> binning; plain_map has counts alone
"""
