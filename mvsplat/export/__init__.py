"""Files made from Gaussians and renderings."""
