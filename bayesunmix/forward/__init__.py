"""From composition to spectrum and back: line spectra and yields through film and detector, counts to atoms.

line_table -> spectra (the forward model), line_shapes, pixel_thickness     quantify: compositions from draws of counts
"""
