"""Pure functions on cameras, rotations, projections and spherical harmonics."""
