"""Points triangulated in a generated room, against its exact depth; and what goes wrong."""

from dataclasses import replace
from importlib.util import find_spec

import pytest
import torch
import torch.nn.functional as F

from mvsplat.data.bounds import Bounds
from mvsplat.geometry.projection import homogeneous, invert_rigid
from mvsplat.reconstruction import refinement
from mvsplat.reconstruction.cameras import triangulating
from mvsplat.reconstruction.stages import Stages
from mvsplat.refinement.photographs import read_photographs

needs_pycolmap = pytest.mark.skipif(
    find_spec("pycolmap") is None, reason="pycolmap is not installed (the extra photos)"
)
SHAPE = 300, 400


@pytest.fixture(scope="module")
def photographs(room):
    return read_photographs(room, range(len(room))).photographs


def seen(points, photograph):
    """Which points are inside of a photograph's frame, at which row and column, how deep."""
    project = photograph.intrinsics @ invert_rigid(photograph.extrinsics)[:3]
    x, y, z = (homogeneous(points.double()) @ project.mT).unbind(-1)
    column, row = x / z * SHAPE[1], y / z * SHAPE[0]
    inside = (z > 0) & (column >= 0) & (row >= 0) & (column < SHAPE[1]) & (row < SHAPE[0])
    return inside, row.long().clamp(0, SHAPE[0] - 1), column.long().clamp(0, SHAPE[1] - 1), z


def around(depth):
    """Of every pixel the depths of those at most two away, as features at edges are [h, w, 25]."""
    padded = F.pad(torch.from_numpy(depth).double()[None, None], (2, 2, 2, 2), mode="replicate")
    return padded[0, 0].unfold(0, 5, 1).unfold(1, 5, 1).flatten(2)


@needs_pycolmap
def test_points_lie_on_surfaces_that_three_photos_show(room, photographs):
    told = []
    bounds = 1.0, 10.0
    points = triangulating.triangulate(photographs, *bounds, progress=lambda *t: told.append(t))
    errors = []
    for index, photograph in enumerate(photographs):
        inside, row, column, z = seen(points, photograph)
        error = (z[:, None] / around(room.depth(index))[row, column] - 1).abs().min(dim=1).values
        errors.append(error.where(inside, torch.inf))
    third = torch.stack(errors).sort(dim=0).values[2]
    assert len(points) > 100 and float(third.median()) < 0.002
    # The others are where an edge passes before another one, which looks like a corner.
    assert float((third < 0.05).float().mean()) > 0.9
    done = [done for done, _ in told]
    assert done == sorted(done) and told[0][0] == 0 and told[-1][0] == told[-1][1] > len(room)


@needs_pycolmap
def test_pixels_that_do_not_count_give_no_points(photographs):
    left = torch.zeros(SHAPE, dtype=torch.bool)
    left[:, :200] = True
    masked = [replace(photograph, mask=left) for photograph in photographs[1:4]]
    points = triangulating.triangulate([photographs[0], *masked], 1.0, 10.0)
    at_left = sum(
        inside & (column < 202) for inside, _, column, _ in (seen(points, p) for p in masked)
    )
    assert len(points) > 10 and bool((at_left >= 2).all())  # and in the fourth, or in it as well


def test_photos_are_matched_with_neighbours_only(photographs):
    many = []
    for number in range(100):
        pose = photographs[0].extrinsics.clone()
        pose[:3, 3] = torch.tensor([0.2 * number, 0, 0])
        many.append(replace(photographs[0], extrinsics=pose))
    pairs = triangulating._pairs(many, 1.0, 10.0)
    assert len(pairs) <= 8 * 100 and len(set(pairs)) == len(pairs)
    assert all(0 < other - one < 20 for one, other in pairs)
    assert {number for pair in pairs for number in pair} == set(range(100))


def test_pycolmap_missing_is_said_with_the_command_that_installs_it(photographs, monkeypatch):
    monkeypatch.setattr(triangulating, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'mvsplat\[photos\]'"):
        triangulating.triangulate(photographs, 1.0, 10.0)


def failing(monkeypatch, error):
    def triangulate(*_):
        raise error

    monkeypatch.setattr(refinement, "triangulate", triangulate)


@pytest.mark.parametrize(
    ("error", "note"),
    [
        (ModuleNotFoundError("pycolmap"), "pycolmap, which would triangulate more points, is not"),
        (
            RuntimeError("pycolmap was ended by SIGABRT"),
            "no points were triangulated: pycolmap was",
        ),
        (OSError("No space left on device"), "no points were triangulated: No space left"),
    ],
)
def test_what_fails_or_is_interrupted_is_a_note(monkeypatch, photographs, error, note):
    failing(monkeypatch, error)
    bounds = Bounds(1.0, 10.0, "given")
    found, told = refinement._sparse_points(None, photographs, bounds, 0, Stages())
    assert found is None and note in told


def test_points_of_the_data_need_no_others(monkeypatch, photographs):
    failing(monkeypatch, AssertionError("not needed"))
    given, bounds = torch.ones(1, 3), Bounds(1.0, 10.0, "given")
    found, told = refinement._sparse_points(given, photographs, bounds, 0, Stages())
    assert found is given and told == ""
