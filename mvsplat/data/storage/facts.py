"""What storage tells of a file, from the words of its driver."""

import base64
import re
from dataclasses import dataclass
from typing import Any

# What tells one version of a file from another, by the names that drivers give it.
_VERSIONS = ("ETag", "etag", "blob_id", "LastModified", "Last-Modified", "mtime", "created")


@dataclass(frozen=True)
class FileFacts:
    """What storage tells of a file, as far as it does.

    Args:
        size: In bytes.
        version: Another one is another content.
        sha256: The hash of its content, in hexadecimal digits.
        md5: Another hash. An ETag that looks like one may be none (of encrypted files, say).
        md5_is_sure: Whether ``md5`` is no such guess.
    """

    size: int | None = None
    version: str = ""
    sha256: str = ""
    md5: str = ""
    md5_is_sure: bool = False

    @property
    def has_hash(self) -> bool:
        """Whether something is known that its content can be checked by."""
        return bool(self.sha256 or self.md5)


def facts_of(info: dict[str, Any]) -> FileFacts:
    """From what fsspec calls a file's info."""
    version = next((str(info[name]).strip('"') for name in _VERSIONS if info.get(name)), "")
    lfs = info.get("lfs") or {}
    sure = _from_base64(info.get("md5Hash") or info.get("Content-MD5"))
    guess = version if re.fullmatch("[0-9a-f]{32}", version) else ""
    sha256 = lfs.get("sha256", "") if isinstance(lfs, dict) else getattr(lfs, "sha256", "")
    return FileFacts(info.get("size"), version, sha256, sure or guess, bool(sure))


def _from_base64(text: str | None) -> str:
    """Hexadecimal digits."""
    try:
        return base64.b64decode(text or "", validate=True).hex()
    except ValueError:
        return ""
