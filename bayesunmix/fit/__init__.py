"""From a map and a configuration to draws of the posterior, in the order of the files.

preparation (pixel_choice, energy_axis) -> starts -> search -> posterior (model_data) -> sampling (draws, trust)
-> mode_mixture

phase_number stands before all of it where the number of phases is not declared; free_endmembers (free_posterior) takes
the place of search and posterior where endmembers are free of physics.
"""
