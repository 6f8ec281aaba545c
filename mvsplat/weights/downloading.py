"""Files from the network: resumed where they broke off, checked, and put in place whole.

torch.hub begins anew after an interruption, and huggingface_hub (2.4) does once its process has
ended; files of a gigabyte ask for more. What is here already is kept beside the place of the file
(``.NAME.part``), across processes.
"""

import hashlib
import http.client
import os
import re
import urllib.error
import urllib.request
from collections.abc import Callable
from email.message import Message
from pathlib import Path
from time import sleep
from typing import Any
from urllib.parse import urlsplit

import torch
from filelock import FileLock

from mvsplat.files import file_name
from mvsplat.progress import counting, log_line

_TIMEOUT = 60.0  # seconds without a byte
_PAUSE = 1.0  # seconds before an attempt to go on
_BLOCK, _MB = 1 << 20, 10**6
_BROKEN = (OSError, http.client.HTTPException)


def cache_folder() -> Path:
    """Where downloaded weights are kept: ``MVSPLAT_CACHE``, or a folder of torch's hub cache."""
    own = os.environ.get("MVSPLAT_CACHE")
    return Path(own).expanduser() if own else Path(torch.hub.get_dir()) / "checkpoints" / "mvsplat"


def place_of(address: str) -> Path:
    """The cached file of an address; there need not be one."""
    parts = urlsplit(address)
    name = f"{parts.path}?{parts.query}" if parts.query else parts.path
    names = [part for part in name.split("/") if part]
    host = f"{parts.hostname}_{parts.port}" if parts.port else f"{parts.hostname}"
    return cache_folder().joinpath(*map(file_name, [host, *names]))


def download(
    address: str,
    place: Path,
    sha256: str = "",
    token: str | None = None,
    check: Callable[[Path], object] = lambda _: None,
) -> Path:
    """Bring a file here, unless it is here already.

    Proxies are those of the environment (``https_proxy`` ...).

    Args:
        address: ``https://...`` or ``http://...``
        place: Where to put it.
        sha256: The hash of its content, or the beginning of it. Where it is not given, that in the
            file's name is checked (``-5d9d7964.pth``, as torch.hub has it), or what the Hub tells.
        token: Sent to the address, but not to where it redirects.
        check: Where no hash is known: raises ValueError for a content that is of no use, which is
            then not kept.

    Raises:
        ConnectionError: It cannot be had; says where from and where to put it by hand.
        PermissionError: The folder cannot be made.
        ValueError: Something else came.
    """
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PermissionError(
            f"cannot keep weights in {place.parent} ({error.strerror}): MVSPLAT_CACHE names "
            "another folder"
        ) from error
    with FileLock(place.with_name(f".{place.name}.lock")):
        if place.is_file():  # another process has brought it meanwhile
            return place
        part = place.with_name(f".{place.name}.part")
        log_line(f"downloading {address} to {place}", stderr=True)
        try:
            told = _complete(address, part, token)
        except _BROKEN as error:
            raise ConnectionError(_no_way(address, place, error)) from error
        try:
            expected = sha256 or _hash_in(address) or told
            _check_hash(part, expected, address)
            if not expected:
                check(part)
        except ValueError as error:
            part.unlink()
            what = str(error).replace(str(part), f"what {address} sent")
            raise ValueError(what) from error
        part.replace(place)
    return place


def _complete(address: str, part: Path, token: str | None) -> str:
    """Go on with the part until it is whole: as long as each attempt brings something.

    Returns:
        The hash that the Hub tells; empty if none was told.
    """
    begun_anew = False
    while True:
        before = _size(part)
        try:
            return _go_on(address, part, token)
        except (urllib.error.HTTPError, _AnotherFile) as error:
            if begun_anew or getattr(error, "code", 416) != 416:
                raise
            part.unlink(missing_ok=True)  # of a file that was longer, or another one
            begun_anew = True
        except _BROKEN:
            if _size(part) <= before:
                raise
        sleep(_PAUSE)


class _AnotherFile(ConnectionError):
    """There is another file now than the one that the part is of."""


def _go_on(address: str, part: Path, token: str | None) -> str:
    """One request for what is missing; OSError if it breaks off."""
    mark = part.with_suffix(".version")
    version, whole = _marked(mark)
    begin = _size(part) if mark.is_file() else 0
    request = urllib.request.Request(address, headers={"User-Agent": "mvsplat"})
    if token:
        request.add_unredirected_header("Authorization", f"Bearer {token}")
    if begin:
        request.add_header("Range", f"bytes={begin}-")
        if version:
            request.add_header("If-Range", version)  # all of it, if it is another one now
    hashes = _LinkedHashes()
    with urllib.request.build_opener(hashes).open(request, timeout=_TIMEOUT) as response:
        begin = begin if response.status == 206 else 0
        length = response.headers.get("Content-Length")
        total = None if length is None else begin + int(length)
        if begin and whole not in ("", str(total)):
            raise _AnotherFile(f"its size is {total} now, and was {whole}")
        if not begin:
            version = response.headers.get("ETag") or response.headers.get("Last-Modified") or ""
            mark.write_text(f"{version}\n{'' if total is None else total}")
        hashes.note(response.headers)
        _append(response, part, begin, total)
    if total is not None and _size(part) != total:
        raise ConnectionError(f"it broke off after {_size(part):,} of {total:,} bytes")
    mark.unlink(missing_ok=True)
    return hashes.found


def _marked(mark: Path) -> tuple[str, str]:
    """Version and size of the file that a part is of, as far as they were told."""
    version, _, whole = mark.read_text().partition("\n") if mark.is_file() else ("", "", "")
    return version, whole


class _LinkedHashes(urllib.request.HTTPRedirectHandler):
    """Follows redirections, and keeps the SHA-256 that the Hub tells before it redirects."""

    found = ""

    def note(self, headers: Message) -> None:
        told = (headers.get("X-Linked-ETag") or "").strip('"')
        if re.fullmatch("[0-9a-f]{64}", told):
            self.found = told

    def redirect_request(self, req: Any, fp: Any, code: Any, msg: Any, headers: Any, newurl: Any):
        self.note(headers)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _append(response: http.client.HTTPResponse, part: Path, begin: int, total: int | None) -> None:
    whole = None if total is None else total // _MB
    with (
        part.open("r+b" if begin else "wb") as file,
        counting(f"{part.name[1:-5]}, MB", whole, stderr=True) as update,
    ):
        done = file.seek(begin)
        while block := response.read(_BLOCK):
            file.write(block)
            done += len(block)
            update(done // _MB, whole)


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def sha256_of(path: Path) -> str:
    """The hash of a file's content."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _hash_in(address: str) -> str:
    """The beginning of the hash that a file's name ends with; a date, for instance, is none."""
    found = re.search(r"-([0-9a-f]{8,64})\.\w+$", urlsplit(address).path)
    return found[1] if found and not found[1].isdecimal() else ""


def _check_hash(part: Path, expected: str, address: str) -> None:
    found = sha256_of(part) if expected else ""
    if not found.startswith(expected):
        raise ValueError(
            f"{address} sent another file than expected: the SHA-256 of its {_size(part):,} bytes "
            f"begins with {found[: len(expected)][:16]}, not with {expected[:16]}; nothing of it "
            "is kept"
        )


def _no_way(address: str, place: Path, error: BaseException) -> str:
    reason = str(getattr(error, "reason", error)) or type(error).__name__
    hint = ""
    if isinstance(error, urllib.error.HTTPError):
        reason = f"{error.code} {error.reason}"
        if error.code in (401, 403):
            hint = " It may need a token: set HF_TOKEN, after accepting its terms in a browser."
    reason = re.sub(r"\s+", " ", reason)
    return (
        f"cannot download {address} ({reason}).{hint} Where there is a network, download it, and "
        f"place it here as {place}"
    )
