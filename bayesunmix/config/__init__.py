"""What the user declares, checked: one frozen dataclass for each table of the configuration file.

run_config (the file as a whole) <- settings, output_settings, pixel_settings, phase
"""
