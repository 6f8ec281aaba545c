"""Scene sources, view samplers, crops and flips, generated scenes, the data module."""
