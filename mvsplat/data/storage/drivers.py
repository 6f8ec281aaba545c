"""fsspec's drivers: found by an address, or missed with the way out."""

from typing import Any

STALLED = 120.0
"""Seconds after which a request that has brought nothing is given up, and made again."""


def driver(text: str) -> tuple[Any, str]:
    """fsspec's file system for an address, and the path there.

    Asked for every time, as processes that are forked need one of their own; fsspec keeps them.

    Raises:
        ValueError: There is no driver, or it is not installed.
    """
    from fsspec.core import url_to_fs
    from fsspec.registry import known_implementations

    protocol = text.partition("://")[0].lower()
    try:
        return url_to_fs(text)
    except ImportError as error:
        known = known_implementations.get(protocol, {}).get("class", "").partition(".")[0]
        missing = error.name if error.name and known == "fsspec" else known or error.name
        raise ValueError(
            f"{text} needs the package {missing}, which is not installed: pip install {missing}"
        ) from error
    except ValueError as error:
        if "Protocol not known" not in str(error):
            raise
        raise ValueError(
            f"{text}: there is no storage {protocol}://; known to fsspec are, among others, s3://, "
            "gs://, az://, hf://, https:// and memory://"
        ) from error


def time_limit(files: Any) -> dict[str, Any]:
    """The option of a driver's requests that ends those which bring nothing, where it has one."""
    from fsspec.asyn import AsyncFileSystem

    return {"timeout": STALLED} if isinstance(files, AsyncFileSystem) else {}
