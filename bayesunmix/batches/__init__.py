"""Many maps by one call: each into an output folder of its own, over worker processes, and all answers in one table."""
