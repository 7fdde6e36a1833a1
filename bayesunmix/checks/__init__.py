"""What a fit must say about itself: where it misses the counts, what holds its numbers, and what their errors hold.

goodness, residual_regions: the sum spectrum and segments     misfit, regions: of significant residual on the map
robust: intervals where a phase varies                          local_posterior, declarations, identifiability: what
budget: where the uncertainty comes from                        identifies which composition
outcomes: what they find, as values that the record of a run holds
"""
