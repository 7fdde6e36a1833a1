"""Several results together: side by side (comparison, comparison_files), or pooled in one model of a series.

shared_calibration gives all of them the same errors of line strengths.
"""
