"""Algorithms that fit a model to counts and know no chemistry."""
