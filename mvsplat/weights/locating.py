"""Which file is meant by weights that are named: by a known name, an address or a path."""

from difflib import get_close_matches
from pathlib import Path

from mvsplat.weights.downloading import download, place_of
from mvsplat.weights.file_content import load_content
from mvsplat.weights.hub import HUB, SCHEME, HubFile, address_of, endpoint, parse, token
from mvsplat.weights.known import KnownWeights, known_weights

_WEB = ("https://", "http://")


def is_path(weights: str | Path) -> bool:
    """Whether a file is meant, rather than a known name or an address.

    A known name wins over a file of that name; ``./small`` is the file, and so is any Path.
    """
    if isinstance(weights, Path):
        return True
    return weights not in known_weights() and not weights.startswith((SCHEME, *_WEB))


def find_weights(weights: str | Path) -> Path:
    """The file that is meant, downloaded if it is not here yet.

    Raises:
        FileNotFoundError: There is no such file.
        ConnectionError: It cannot be downloaded.
        ValueError: The address is none, or something else came from there.
    """
    if isinstance(weights, str) and not is_path(weights):
        return _named(weights)
    path = Path(weights)
    if not path.is_file():
        near = get_close_matches(str(weights), known_weights(), n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        there = f"no checkpoint at {path}" + (", which is a folder" if path.is_dir() else "")
        raise FileNotFoundError(f"{there}{hint} (mvsplat weights lists known names)")
    return path


def _named(weights: str) -> Path:
    known = known_weights().get(weights)
    if known is not None:
        return fetch(known)
    if weights.startswith(SCHEME):
        return _from_hub(parse(weights))
    place = place_of(weights)
    if place.is_file():
        return place
    known_there = token() if weights.startswith(f"{endpoint()}/") else None
    return download(weights, place, "", known_there, load_content)


def fetch(known: KnownWeights) -> Path:
    """The file of known weights, downloaded if it is not here yet.

    Raises:
        FileNotFoundError: It should have come with the package.
        ConnectionError: It cannot be downloaded.
        ValueError: Something else came.
    """
    if known.file is not None:
        return _from_hub(known.file, known.sha256)
    if not known.place.is_file():
        raise FileNotFoundError(
            f"the weights {known.name!r} are not in this installation ({known.place}): install the "
            "package again"
        )
    return known.place


def _from_hub(file: HubFile, sha256: str = "") -> Path:
    # One place, whichever mirror it comes from.
    place = place_of(address_of(file, HUB))
    if place.is_file():
        return place
    return download(address_of(file, endpoint()), place, sha256, token(), load_content)
