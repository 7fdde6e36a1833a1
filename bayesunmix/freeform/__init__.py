"""Endmembers without physics: `unmix_free` for counts of any kind (unmixing, posterior), and as a stage of a run."""
