"""From atoms to what a geochemist publishes, draw by draw.

detection, ratios (partition coefficients), units (unit_names), oxides, sites (assumptions: what they take for granted),
mass_balance, ionic_radii; stoichiometry is what a formula declares
"""
