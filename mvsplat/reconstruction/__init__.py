"""From a folder of photographs to a 3-D scene: ``mvsplat.reconstruct``."""
