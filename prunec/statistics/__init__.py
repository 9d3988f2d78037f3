"""What calibration measures: sampled patches, their moments, and the sweeps that collect them."""
