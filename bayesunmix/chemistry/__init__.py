"""From counts to what a geochemist publishes, draw by draw.

quantify (compositions, what is detected) -> units, oxides, sites (assumptions: what they take for granted) -> ratios
(partition coefficients), mass_balance, mass_thickness -> onuma (ionic_radii); stoichiometry is what a formula declares
"""
