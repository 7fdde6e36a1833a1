"""Probability models of a spectrum image and their priors."""
