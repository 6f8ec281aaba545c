"""Splat formats that store rounded values, or others than PLY does; one module each."""
