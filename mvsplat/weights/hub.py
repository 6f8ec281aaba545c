"""Files of the Hugging Face Hub, or of a mirror (``HF_ENDPOINT``), and the token for them."""

import os
import re
from contextlib import suppress
from typing import NamedTuple

HUB = "https://huggingface.co"
SCHEME = "hf://"
MODEL_FILE = "model.safetensors"
"""What ``push`` writes, and an address without a file means."""

_FORM = re.compile(
    r"hf://(?P<repository>[\w.-]+/[\w.-]+)(@(?P<revision>[^/]+))?(/(?P<file>[^?#]+))?/?"
)


class HubFile(NamedTuple):
    """A file of a repository.

    ``revision`` is a branch, a tag or a commit.
    """

    repository: str
    file: str = MODEL_FILE
    revision: str = "main"


def parse(address: str) -> HubFile:
    """What ``hf://owner/repository[@revision][/file]`` means.

    Raises:
        ValueError: It has another form.
    """
    match = _FORM.fullmatch(address)
    if match is None:
        raise ValueError(
            f"{address} is not of the form hf://owner/repository/file; a revision can follow the "
            "repository (hf://owner/repository@v1/file)"
        )
    return HubFile(match["repository"], match["file"] or MODEL_FILE, match["revision"] or "main")


def endpoint() -> str:
    """Where the Hub is: ``HF_ENDPOINT`` names a mirror."""
    return os.environ.get("HF_ENDPOINT", "").rstrip("/") or HUB


def address_of(file: HubFile, hub: str | None = None) -> str:
    """The https address of a file; at the mirror in use, if no ``hub`` is named."""
    return f"{hub or endpoint()}/{file.repository}/resolve/{file.revision}/{file.file}"


def token() -> str | None:
    """The user's token: ``HF_TOKEN``, or that of ``hf auth login`` where the Hub's library is."""
    if given := os.environ.get("HF_TOKEN"):
        return given
    with suppress(ImportError):
        from huggingface_hub import get_token

        return get_token()
    return None
