"""From atoms to what a geochemist publishes, draw by draw.

detection, ratios (partition coefficients), units (unit_names), oxides, sites (assumptions: what they take for granted),
mass_balance, ionic_radii; stoichiometry is what a formula declares

What a phase may be: compounds (the library), in the declared elements (endmember_mixing), against draws of a
composition (smoothed_composition), by likelihoods (compound_evidence, unit_cube) and what is known beforehand (naming)
"""
