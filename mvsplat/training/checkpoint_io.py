"""Checkpoint files that have their name only when they are complete on disk."""

import os
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO

from mvsplat.files import replacing


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint under a temporary name beside its own, which it gets once it is on disk.

    Lightning's own goes through the system's temporary folder, which may be another disk: there,
    the last move is a copy that can be interrupted.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Write ``checkpoint``.

        Raises:
            OSError: The disk is full, say; what was at ``path`` before is still there.
        """
        try:
            with replacing(path) as temporary, open(temporary, "wb") as file:
                torch.save(checkpoint, file)
                # Or a power cut could leave the name, which is a small change, without the content.
                file.flush()
                os.fsync(file.fileno())
        except RuntimeError as error:
            # torch's writer raises its own error on top of the file's.
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise
        _sync_folder(Path(path).parent)


def _sync_folder(folder: Path) -> None:
    """Bring a folder's entries to disk, where the system can do that."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
