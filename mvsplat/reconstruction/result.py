"""What ``mvsplat.reconstruct`` returns: the scene, and writing it to a folder."""

from pathlib import Path

from mvsplat.reconstruction.output import OutputFolder
from mvsplat.reconstruction.reconstructed import ReconstructedScene
from mvsplat.reconstruction.saving import save


class Reconstruction(ReconstructedScene):
    """A 3-D scene made from photographs; what it holds is in :class:`ReconstructedScene`."""

    def save(self, folder: str | Path, overwrite: bool = False, splat: str = ".ply") -> Path:
        """Write everything: the splat first, then cameras, photos, depth, video, and the report.

        Args:
            folder: Created if need be; must be empty otherwise.
            overwrite: Replace an earlier reconstruction in it.
            splat: The suffix of the splat's format.

        Returns:
            The folder.

        Raises:
            ValueError: There is something in the folder that must not be lost.
            OSError: It cannot be written to.
        """
        return save(self, OutputFolder(folder, overwrite, splat))
