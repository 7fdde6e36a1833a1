"""From a map and a configuration to draws of the posterior, in the order of the files.

preparation (pixel_choice, energy_axis) -> starts -> search -> posterior (model_data) -> sampling (draws, trust)
-> mode_mixture

endmember_model is what a run asks of all this: line_model answers by starts to sampling, free_endmembers
(free_posterior) by endmembers without physics. phase_number stands before it where the number of phases is not
declared, further_phase after the mode where it is (both by phase_search).
"""
