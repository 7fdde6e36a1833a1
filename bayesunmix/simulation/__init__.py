"""Maps of known truth: phantom lays out grains, simulate draws the counts."""
