"""Collect what calibration measures: sampled patches and their moments, in sweeps over the network."""
