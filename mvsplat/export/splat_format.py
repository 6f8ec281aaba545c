"""What a splat format is: how Gaussians become a file of one suffix, and come back."""

import inspect
from pathlib import Path
from typing import Any

from mvsplat.types import Gaussians


class SplatFormat:
    """A file format of Gaussians, chosen by a file's suffix.

    Derive from it, say in ``about`` what it is, and override ``write``, ``read`` or both. Another
    package's format joins through an entry point of the group ``mvsplat.splat_formats``, whose name
    is the suffix without its dot. Formats have no state and take no arguments.

    Attributes:
        about: What it is in a few words, for lists of formats.
    """

    about: str = "a splat format"

    def write(self, gaussians: Gaussians, path: Path, *_: Any, **options: Any) -> None:
        """Write a batch of one scene, whose values are finite, to a new file.

        Options are keyword arguments of :func:`mvsplat.export.save_splat`; name them in the
        signature, so that others are refused. Two are always given to formats that name them:
        ``cameras`` (:class:`mvsplat.export.Cameras`, or None) and ``title``, the file's stem.
        """
        raise NotImplementedError

    def read(self, path: Path, *_: Any, **options: Any) -> Gaussians:
        """Read a file as a batch of one scene; values that are not finite may be among them.

        The one option, ``activated``, is given to formats that name it in the signature.

        Raises:
            ValueError: It is damaged; says what was found and what was expected.
        """
        raise NotImplementedError

    def check(self, path: Path) -> None:
        """Look whether a file can be read without reading all of it; by default it always can.

        Raises:
            ValueError: It cannot.
        """

    def recognises(self, path: Path) -> bool:
        """Whether a file of the suffix may be one; override it if others use the suffix as well."""
        return True

    def takes(self, option: str) -> bool:
        """Whether ``write`` names an option; whoever takes ``cameras`` holds them in the file."""
        return option in inspect.signature(self.write).parameters

    @property
    def writes(self) -> bool:
        """Whether files can be written."""
        return type(self).write is not SplatFormat.write

    @property
    def reads(self) -> bool:
        """Whether files can be read."""
        return type(self).read is not SplatFormat.read
