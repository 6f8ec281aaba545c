"""Gaussians as NumPy archives: a splat format of a user, as README shows it."""

import numpy as np
import torch

from mvsplat import Gaussians
from mvsplat.export import SplatFormat

FIELDS = ("means", "scales", "rotations", "harmonics", "opacities")


class NpzFormat(SplatFormat):
    about = "NumPy archive"

    def write(self, gaussians, path, half=False):
        kind = np.float16 if half else np.float32
        arrays = {name: getattr(gaussians, name)[0].cpu().numpy() for name in FIELDS}
        with path.open("wb") as file:
            np.savez_compressed(file, **{name: a.astype(kind) for name, a in arrays.items()})

    def read(self, path):
        with np.load(path) as arrays:
            fields = {name: torch.from_numpy(arrays[name])[None].float() for name in FIELDS}
        return Gaussians(**fields)
