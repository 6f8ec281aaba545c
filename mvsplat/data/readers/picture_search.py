"""The search for pictures that data names: which folders, which forms, in which order."""

import filecmp
import os
import re
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from itertools import combinations
from pathlib import Path

from mvsplat.data.readers.folder_listing import Listing, Listings
from mvsplat.data.readers.picture_names import (
    Form,
    components,
    in_form,
    is_readable,
    is_relative,
)

# Folders of the same pictures, smaller, that programs write beside images/.
SMALLER = ("images_2", "images_4", "images_8")

# Names of folders whose pictures are photographs, and of those whose pictures show something else.
_PHOTOGRAPHS = re.compile(
    "(?:.*[^a-z])?(?:images?|imgs?|photos?|pictures?|pics?|rgb|colou?rs?|inputs?|frames?|shots?|raw|"
    "dcim|undistorted|resized|jpe?gs?|pngs?)(?:[^a-z].*)?",
    re.IGNORECASE,
)
_SOMETHING_ELSE = re.compile("mask|depth|normal|segment|semantic|label|thumb|flow|confiden", re.I)
# Of more folders beside a scene's, only those with usual names are looked into.
_MOST_BESIDE = 50
# A folder with one of these is a scene of its own.
_OF_A_SCENE = {"images", "sparse", "colmap", "cams"}


class TwoFit(ValueError):
    """Two files fit a name equally well."""


def other_places(root: Path, names: Sequence[str]) -> list[Path]:
    """A scene's folder and the folders in it, folders of pictures in these, the folder above, and
    the folders of pictures there: by their names or because they have all pictures of these names,
    and no other scene's data."""
    wanted = {components(name)[-1:] for name in names}
    tellable = len(wanted) > 1 and all(map(is_relative, names))
    inner = _folders(root)
    found = [root, *inner]
    for folder in inner[:_MOST_BESIDE]:
        found += [f for f in _folders(folder) if _PHOTOGRAPHS.fullmatch(f.name)]
    for above in sorted(_parents(root)):
        beside = _folders(above)
        few = tellable and len(beside) <= _MOST_BESIDE
        candidates = [f for f in beside if few or _PHOTOGRAPHS.fullmatch(f.name)]
        found += [above, *(f for f in candidates if _has_pictures_of(f, wanted))]
    return found


def _has_pictures_of(folder: Path, wanted: set[tuple[str, ...]]) -> bool:
    """Whether a folder beside a scene's is one of pictures, the scene's by all signs."""
    listing = Listing(folder)
    if listing.folders & _OF_A_SCENE or "transforms.json" in listing.files:
        return False
    named = _PHOTOGRAPHS.fullmatch(folder.name)
    return bool(named) or {(name,) for name in listing.files} >= wanted


def _parents(root: Path) -> set[Path]:
    """The folder above, as the user wrote it and where it really is."""
    return {Path(os.path.abspath(root)).parent, root.resolve().parent}


def _folders(folder: Path) -> list[Path]:
    names = sorted(Listing(folder).folders)
    return [folder / n for n in names if n[0] != "." and not _SOMETHING_ELSE.search(n)]


class _Elsewhere:
    """Where to look for what is not where it belongs: some folders, all at once."""

    def __init__(self, root: Path, places: Sequence[Path], listings: Listings) -> None:
        self.places = places
        self.listings = listings
        self._parents = _parents(root)
        self._own = {root, *self._parents}
        self._files: dict[tuple[Form, bool], dict[str, list[Path]]] = {}

    def fitting(self, tail: tuple[str, ...], form: Form, shortened: bool) -> list[Path]:
        """Pictures whose names agree with components.

        Without its folder (``shortened``), a name may be that of another camera's or split's
        picture: then only folders of photographs count.
        """
        if len(tail) == 1:
            return self._directly(form, shortened).get(in_form(tail[0], form), [])
        # Of the folder above, only what lies in it directly counts: a name leads no further.
        places = [place for place in self.places if place not in self._parents]
        return [
            path
            for place in places
            for path in self.listings.files(place, tail, form)
            if is_readable(path.name)
        ]

    def _directly(self, form: Form, shortened: bool) -> dict[str, list[Path]]:
        if (form, shortened) not in self._files:
            table: dict[str, list[Path]] = {}
            for place in self.places:
                if not shortened or place in self._own or _PHOTOGRAPHS.fullmatch(place.name):
                    for name in self.listings[place].pictures:
                        table.setdefault(in_form(name, form), []).append(place / name)
            self._files[form, shortened] = table
        return self._files[form, shortened]


class Search:
    """Names that are still to be found, and files that were."""

    def __init__(
        self, root: Path, places: list[Path], elsewhere: Callable[[], Sequence[Path]]
    ) -> None:
        self.root = root
        self.places = places
        self.listings = Listings()
        self.paths: dict[str, Path] = {}
        self.contested: set[str] = set()
        self._list_elsewhere = elsewhere
        self._elsewhere: _Elsewhere | None = None
        self._taken: set[Path] = set()

    @property
    def looked_in(self) -> list[Path]:
        """All places that were looked in so far."""
        return [*self.places, *(self._elsewhere.places if self._elsewhere else [])]

    def run(self, parts: dict[str, tuple[str, ...]]) -> None:
        """Look for all names, the likeliest places and forms first."""
        self._round(parts, lambda tail: self._where_it_belongs(tail, (Form.EXACT,)))
        self._round(parts, self._where_it_belongs)
        rest = self._not_settled(parts)
        self._round(rest, lambda tail: self._look_elsewhere(tail, shortened=False))
        while any(len(tail) > 1 for tail in rest.values()):
            rest = {name: tail[1:] for name, tail in self._not_settled(rest).items() if tail[1:]}
            self._round(rest, self._where_it_belongs)
            self._round(rest, lambda tail: self._look_elsewhere(tail, shortened=True))

    def _round(
        self, tails: dict[str, tuple[str, ...]], look: Callable[[tuple[str, ...]], Path | None]
    ) -> None:
        """Look for those that are not found yet; one file serves one name only."""
        hits: dict[Path, list[str]] = {}
        for name, tail in tails.items():
            if name in self.paths or name in self.contested or not tail:
                continue
            path = look(tail)
            if path is not None:
                hits.setdefault(path, []).append(name)
        for path, names in hits.items():
            self._taken.add(path)
            if len({components(name) for name in names}) == 1:
                self.paths |= dict.fromkeys(names, path)
            else:
                self.contested.update(names)

    def _where_it_belongs(
        self, tail: tuple[str, ...], forms: Sequence[Form] = tuple(Form)
    ) -> Path | None:
        for place in self.places:
            for names in with_smaller(tail):
                # What agrees in no form agrees in no closer one, either.
                if len(forms) > 1 and not self.listings.files(place, names, forms[-1]):
                    continue
                for form in forms:
                    fitting = self._free(self.listings.files(place, names, form))
                    if fitting:
                        return _the_one(tail, fitting)
        return None

    def _look_elsewhere(self, tail: tuple[str, ...], shortened: bool) -> Path | None:
        if self._elsewhere is None:
            places = [place for place in self._list_elsewhere() if place not in self.places]
            self._elsewhere = _Elsewhere(self.root, list(dict.fromkeys(places)), self.listings)
        if not self._elsewhere.fitting(tail, Form.NUMBER, shortened):
            return None
        for form in Form:
            fitting = self._free(self._elsewhere.fitting(tail, form, shortened))
            if fitting:
                return _the_one(tail, fitting)
        return None

    def _free(self, paths: list[Path]) -> list[Path]:
        return [path for path in paths if path not in self._taken]

    def _not_settled(self, tails: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        """Those not found whose folder was not found either; in a folder with other pictures of
        the scene, a picture that is not there is missing."""
        known = {path.parent for path in self.paths.values()}

        @cache
        def is_known(folders: tuple[str, ...]) -> bool:
            return any(
                folder in known
                for place in self.looked_in
                for names in with_smaller((*folders, ""))
                for folder in self.listings.folders(place, names[:-1], Form.SPELLING)
            )

        return {
            name: tail
            for name, tail in tails.items()
            if tail and name not in self.paths and not is_known(tail[:-1])
        }


def with_smaller(names: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """The names, and those of the same picture in a folder of smaller ones."""
    yield names
    places = [place for place, name in enumerate(names[:-1]) if name == "images"]
    for place in places[-1:]:
        for folder in SMALLER:
            yield (*names[:place], folder, *names[place + 1 :])


def _the_one(tail: tuple[str, ...], paths: list[Path]) -> Path:
    """The file that fits; several that are the same one, or copies of it, count as one."""
    for one, other in combinations(paths[:8], 2):
        if not (os.path.samefile(one, other) or filecmp.cmp(one, other, shallow=False)):
            name = shortened_name("/".join(tail))
            raise TwoFit(
                f"two pictures fit the name {name}: {one} and {other}; rename or move the one that "
                "is not meant"
            )
    return paths[0]


def shortened_name(name: str) -> str:
    """A name for messages, in quotes."""
    return repr(name if len(name) <= 120 else f"{name[:100]}...")
