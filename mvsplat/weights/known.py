"""Weights that go by a name: the one that comes with the package, and released ones.

What is said of released files is what their pages said (``page``). None of them could be downloaded
where this was written: sizes that begin with ~ follow from the number of parameters, and that the
files load is known only from files of the same names and shapes.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mvsplat.weights.downloading import place_of
from mvsplat.weights.hub import HUB, HubFile, address_of
from mvsplat.weights.released_views import trained_views

SMALL = "small"
SMALL_FILE = Path(__file__).parent / "small.ckpt"
"""Beside this module in the repository, and so in the wheel."""

_RE10K = "RealEstate10K"


@dataclass(frozen=True)
class KnownWeights:
    """Weights that go by a name.

    Args:
        name: The name.
        model: Whose model it is.
        trained_on: What views of.
        views: How many context views.
        image_shape: Height and width of the views in training; of the last stage, if several.
        licence: Of the weights, as far as their page says.
        size: Bytes in words.
        file: Where it is published; None for the one in the package.
        sha256: The beginning of its content's hash, if its page tells.
        of_depth: It holds no weights for Gaussians.
    """

    name: str
    model: str
    trained_on: str
    views: str
    image_shape: tuple[int, int] | None
    licence: str
    size: str
    file: HubFile | None = None
    sha256: str = ""
    of_depth: bool = False

    @property
    def place(self) -> Path:
        """Where the file is, or will be once it is downloaded."""
        return SMALL_FILE if self.file is None else place_of(address_of(self.file, HUB))

    @property
    def good_for(self) -> str:
        """What they were trained on, in a phrase."""
        shape = f", {self.image_shape[0]}x{self.image_shape[1]} pixels" if self.image_shape else ""
        return f"{self.model} trained on {self.trained_on}, {self.views} views{shape}"


def known_weights() -> dict[str, KnownWeights]:
    """All of them by their names."""
    return {weights.name: weights for weights in _KNOWN}


def _depthsplat() -> Iterator[KnownWeights]:
    """The table of https://github.com/cvg/depthsplat/blob/main/MODEL_ZOO.md.

    A file's name ends with the beginning of its hash.
    """
    both, depth = (
        "RealEstate10K and DL3DV",
        "RealEstate10K, DL3DV, then ScanNet, TartanAir, VKITTI2",
    )
    for name, of_file, trained_on, sha256, megabytes in (
        ("small-re10k", "gs-small-re10k-256x256-view2", _RE10K, "cfeab6b1", 153),
        ("base-re10k", "gs-base-re10k-256x256-view2", _RE10K, "ca7b6795", 483),
        ("large-re10k", "gs-large-re10k-256x256-view2", _RE10K, "e0f0f27a", 1417),
        ("base-re10k-wide", "gs-base-re10k-256x448-view2", _RE10K, "fea94f65", 484),
        ("base-dl3dv", "gs-base-dl3dv-256x448-randview2-6", both, "02c7b19d", 484),
        ("small-re10kdl3dv", "gs-small-re10kdl3dv-448x768-randview4-10", both, "c08188db", 154),
        ("base-re10kdl3dv", "gs-base-re10kdl3dv-448x768-randview2-6", both, "f8ddd845", 484),
        ("depth-small", "depth-small-352x640-randview2-8", depth, "e807bd82", 142),
        ("depth-base", "depth-base-352x640-randview2-8", depth, "65a892c5", 445),
    ):
        told = trained_views(of_file)
        assert told is not None
        image_shape, (fewest, most) = told
        file = HubFile("haofeixu/depthsplat", f"depthsplat-{of_file}-{sha256}.pth")
        yield KnownWeights(
            name=f"depthsplat-{name}",
            model="DepthSplat",
            trained_on=trained_on,
            views=f"{fewest} to {most}" if most > fewest else f"{fewest}",
            image_shape=image_shape,
            licence="MIT",
            size=f"~{megabytes} MB",
            file=file,
            sha256=sha256,
            of_depth=name.startswith("depth"),
        )


_KNOWN: tuple[KnownWeights, ...] = (
    KnownWeights(
        SMALL, "this package's model", "generated scenes", "2 to 4", None, "MIT", "under 10 MB"
    ),
    # https://github.com/ziplab/ZPressor, which trained the published MVSplat as its baseline.
    KnownWeights(
        "mvsplat-re10k",
        "MVSplat",
        f"{_RE10K}, frames up to 200 apart",
        "2 or more",
        (256, 256),
        "not said (code: MIT)",
        "not said",
        HubFile("lhmd/ZPressor", "mvsplat-re10k-baseline-n200-256x256.ckpt"),
    ),
    # A copy of the authors' file; its page tells the whole hash.
    KnownWeights(
        "mvsplat-acid",
        "MVSplat",
        "ACID",
        "2",
        (256, 256),
        "not said (code: MIT)",
        "48 MB",
        HubFile("dylanebert/mvsplat", "acid.ckpt"),
        "253785dee0804e6d7f312bd5b927a47454ba55c32735c0a2685b5d07594e142f",
    ),
    *_depthsplat(),
)
