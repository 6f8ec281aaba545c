"""Gaussians optimised on photographs with cameras."""
