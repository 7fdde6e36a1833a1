"""Work over processes: on this machine, for a Dask scheduler, or in the jobs of a batch system.

Dask distributed starts, feeds and watches the workers, and dask-jobqueue writes the jobs. Whatever is spread knows
nothing of either: a function that travels by pickle, and what it is called with.
"""
