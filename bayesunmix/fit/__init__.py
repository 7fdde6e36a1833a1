"""From a map and a configuration to draws of the posterior, in the order of the files.

preparation (forward, pixel_thickness) -> starts -> search -> posterior (model_data) -> sampling (trust)

phase_number stands before all of it where the number of phases is not declared.
"""
