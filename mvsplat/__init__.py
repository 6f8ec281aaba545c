"""Feed-forward 3-D Gaussian splatting: posed photographs in, a renderable scene out.

The public names, listed in ``__init__.pyi``, are imported on first use, so that ``import mvsplat``
costs little more than ``import torch``; Lightning is imported by what trains.
"""

import lazy_loader

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
__all__ += ["__version__"]
