"""What is asked of finished results, or of a map without a run.

comparison (common_draws, matching, shared_calibration) -> series; onuma; without physics: segmentation, free_unmixing
"""
