"""Scene sources, readers, view samplers, crops and flips, generated scenes, the data module.

The names, listed in ``__init__.pyi``, are imported on first use: the data module brings Lightning,
generated scenes bring numba.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
