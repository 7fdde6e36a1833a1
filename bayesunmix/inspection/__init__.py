"""What a map shows before anything is declared: its peaks, and what they may be.

peaks -> peak_sources (elements, pile-up, escape) -> stray, oxygen; axis_search, axis_guess where the axis is off;
peak_reading puts them together, description words them for ``bayesunmix inspect``
"""
