"""Weights of any kind, by whatever names them.

Whatever takes weights asks here (``--model.weights``, ``load_model``, ``reconstruct``). Another
kind of file belongs to :mod:`mvsplat.weights.kinds`; another way to name one to
:mod:`mvsplat.weights.locating`. Nothing here needs Lightning, whose import takes seconds.
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mvsplat.configurable import CONFIG_KEY
from mvsplat.weights.file_content import load_content
from mvsplat.weights.kinds import understand
from mvsplat.weights.known import known_weights
from mvsplat.weights.locating import find_weights, is_path
from mvsplat.weights.model_weights import Weights


def read_weights(weights: str | Path) -> Weights:
    """Whatever this package can read as weights; nothing in a file is executed.

    Args:
        weights: A known name (``small``; ``mvsplat weights`` lists them), an address
            (``https://...``, ``hf://owner/repository/file``), or a file: a checkpoint of ``fit``, a
            released MVSplat checkpoint, or the bare state dict of either, of the encoder or of the
            whole model, as ``.ckpt``, ``.pth`` or ``.safetensors``. A Path is always a file.

    Raises:
        FileNotFoundError: There is no such file.
        ConnectionError: It cannot be downloaded.
        ValueError: It is damaged, or something else.
    """
    path = find_weights(weights)
    by_path = is_path(weights)
    content, origin = load_content(path), str(path) if by_path else str(weights)
    if not by_path:
        _refuse_imports(content.get(CONFIG_KEY), origin)
    found = understand(content, origin, path.name)
    found.path, found.name = path, path.name if by_path else str(weights)
    said = (known.good_for for known in known_weights().values() if known.place == path)
    found.good_for = str(found.about.get("good_for") or next(said, ""))
    return found


def _refuse_imports(described: Any, origin: str) -> None:
    """What was downloaded must not choose which modules are imported, which executes them."""
    if isinstance(described, Mapping):
        path = described.get("class_path")
        if isinstance(path, str) and path.partition(".")[0] not in ("mvsplat", *sys.modules):
            raise ValueError(
                f"{origin} has a {path}, which is no part of this package: import its module "
                "first, or give the file by its path, if you trust whoever made it"
            )
        described = list(described.values())
    if isinstance(described, (list, tuple)):
        for item in described:
            _refuse_imports(item, origin)
