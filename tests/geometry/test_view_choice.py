"""Context views on captures of known shape: which are chosen, and what is said of them."""

import math

import pytest
import torch

from mvsplat.geometry.overlap import ViewPairs, compare_views, frustum_points
from mvsplat.geometry.view_choice import (
    best_context,
    choose_context,
    context_problems,
    pair_quality,
)


def look(position, target, up=(0.0, 0.0, 1.0)):
    """Camera-to-world (OpenCV) of a camera at a place that looks at another."""
    position, target, up = (torch.tensor(p, dtype=torch.float64) for p in (position, target, up))
    forward = torch.nn.functional.normalize(target - position, dim=0)
    right = torch.nn.functional.normalize(torch.linalg.cross(forward, up), dim=0)
    pose = torch.eye(4, dtype=torch.float64)
    pose[:3, :3] = torch.stack([right, torch.linalg.cross(forward, right), forward], dim=1)
    pose[:3, 3] = position
    return pose.float()


def views(poses, focal=1.0):
    intrinsics = torch.eye(3).repeat(len(poses), 1, 1)
    intrinsics[:, 0, 0] = intrinsics[:, 1, 1] = focal
    intrinsics[:, :2, 2] = 0.5
    return torch.stack(poses), intrinsics


def around(degrees, radius=3.0):
    angle = math.radians(degrees)
    return look((radius * math.cos(angle), radius * math.sin(angle), 0.6), (0.0, 0.0, 0.0))


TURNTABLE = views([around(10 * step) for step in range(36)])
FORWARD = views([look((0.1 * step, 0.0, 0.0), (9.0, 0.0, 0.0)) for step in range(40)])
SIDEWAYS = views([look((0.0, 0.1 * step, 0.0), (1.0, 0.1 * step, 0.0)) for step in range(40)])
FOUR_SIDES = views([around(90 * side + 6 * step) for side in range(4) for step in range(5)])
TURNING = views([look((0.0, 0.0, 0.0), (1.0, 0.08 * step, 0.0)) for step in range(20)])
CAPTURES = {
    "turntable": (TURNTABLE, 2.0, 4.0),
    "forward": (FORWARD, 1.0, 20.0),
    "sideways": (SIDEWAYS, 2.0, 10.0),
    "four sides": (FOUR_SIDES, 2.0, 4.0),
    "turning": (TURNING, 1.0, 10.0),
}


def problems(capture, near, far, context):
    index = torch.as_tensor(context)
    pairs = measured((capture[0][index], capture[1][index]), near, far)
    return context_problems(pairs, index.tolist())


def measured(capture, near, far):
    return compare_views(frustum_points(*capture, near, far), *capture)


@pytest.mark.parametrize("name", CAPTURES)
@pytest.mark.parametrize("count", [1, 2, 3, 4, 7, 20])
def test_any_number_of_distinct_views_the_same_every_time(name, count):
    capture, near, far = CAPTURES[name]
    chosen = choose_context(*capture, near, far, count)
    assert len(chosen) == count and (chosen.diff() > 0).all()
    assert 0 <= chosen[0] and chosen[-1] < len(capture[0])
    assert torch.equal(chosen, choose_context(*capture, near, far, count))


@pytest.mark.parametrize("name", ["turntable", "forward", "sideways", "four sides"])
@pytest.mark.parametrize("count", [2, 3, 4, 6])
def test_every_context_view_has_a_partner_to_be_matched_with(name, count):
    capture, near, far = CAPTURES[name]
    pairs = measured(capture, near, far)
    chosen = choose_context(*capture, near, far, count)
    overlap = pairs.mutual[chosen][:, chosen].fill_diagonal_(0)
    angle = pairs.angle[chosen][:, chosen].fill_diagonal_(180)
    good = (overlap > 0.4) & (angle > 2) & (angle < 25)
    assert good.any(dim=1).all()
    assert problems(capture, near, far, chosen) == []


def test_a_video_is_covered_from_end_to_end():
    for capture, near, far in (CAPTURES["sideways"], CAPTURES["forward"]):
        chosen = choose_context(*capture, near, far, 6).tolist()
        assert chosen[0] <= 8 and chosen[-1] >= 31
        gaps = [second - first for first, second in zip(chosen, chosen[1:], strict=False)]
        assert max(gaps) <= 12


@pytest.mark.parametrize("count", [2, 4, 6, 8])
def test_sides_that_do_not_share_anything_get_pairs_of_their_own(count):
    capture, near, far = CAPTURES["four sides"]
    sides = [view // 5 for view in choose_context(*capture, near, far, count).tolist()]
    assert all(sides.count(side) == 2 for side in set(sides))
    assert len(set(sides)) == count // 2


def test_a_turntable_is_seen_from_around():
    capture, near, far = CAPTURES["turntable"]
    chosen = choose_context(*capture, near, far, 6)
    assert chosen.diff().max() <= 12


def test_two_views_have_the_best_angle_where_all_overlap():
    # Eleven cameras on an arc of 1.6 degrees a step: about 8 degrees are 5 steps.
    capture = views([around(1.6 * step) for step in range(11)], focal=2.0)
    first, last = choose_context(*capture, 2.5, 3.5, 2).tolist()
    assert 4 <= last - first <= 8


def test_a_camera_that_only_turns_covers_most_and_is_reported():
    capture, near, far = CAPTURES["turning"]
    chosen = choose_context(*capture, near, far, 4)
    assert chosen[0] <= 5 and chosen[-1] >= 14
    (problem,) = problems(capture, near, far, chosen)
    assert "all in one place" in problem


def test_identical_cameras_are_reported():
    capture = views([around(0.0)] * 5)
    chosen = choose_context(*capture, 1.0, 10.0, 3)
    assert chosen.tolist() == [0, 1, 2]
    assert "all in one place" in problems(capture, 1.0, 10.0, chosen)[0]


def test_problems_name_the_views():
    capture = views([around(0.0), around(8.0), around(8.1), around(180.0, radius=-9.0)])
    capture[0][3] = look((3.0, 0.0, 0.6), (9.0, 0.0, 0.6))  # looks away
    assert problems(capture, 2.0, 4.0, [0, 1]) == []
    assert problems(capture, 2.0, 4.0, [0]) == ["a single context view leaves nothing to match"]
    assert problems(capture, 2.0, 4.0, [0, 1, 3]) == [
        "view 3 shares at most 0% with another context view"
    ]
    little = problems(capture, 2.0, 4.0, [1, 2])
    assert len(little) == 2 and little[0].startswith("view 1 and view 2 see everything from less")
    # A third view that one of them can be matched with makes up for it.
    assert problems(capture, 2.0, 4.0, [0, 1, 2]) == []


def test_views_that_share_nothing_are_still_chosen_and_reported():
    capture = views([look((0.0, 9.0 * step, 0.0), (1.0, 9.0 * step, 0.0)) for step in range(4)])
    chosen = choose_context(*capture, 1.0, 2.0, 2)
    assert len(chosen) == 2
    assert len(problems(capture, 1.0, 2.0, chosen)) == 2


def test_sparse_points_tell_the_overlap():
    # By the bounds all views overlap; by the points the right half shows something else.
    capture = views([look((0.0, 0.2 * step, 0.0), (1.0, 0.2 * step, 0.0)) for step in range(8)])
    generator = torch.Generator().manual_seed(0)
    points = torch.rand(500, 3, generator=generator) * torch.tensor([0.5, 2.0, 1.0])
    points += torch.tensor([3.0, -1.0, -0.5])
    chosen = choose_context(*capture, 1.0, 100.0, 2, points=points)
    assert chosen[-1] <= 5
    with pytest.raises(ValueError, match="no points with finite"):
        choose_context(*capture, 1.0, 100.0, 2, points=points * math.nan)


@pytest.mark.parametrize("count", [0, -1, 37])
def test_impossible_counts_are_refused(count):
    with pytest.raises(ValueError, match=f"{count} context views are asked for, of 36 views"):
        choose_context(*TURNTABLE, 2.0, 4.0, count)


def test_long_captures_are_thinned_out_evenly(monkeypatch):
    monkeypatch.setattr("mvsplat.geometry.view_choice.MOST_CANDIDATES", 21)
    poses = [look((0.0, 0.05 * step, 0.0), (1.0, 0.05 * step, 0.0)) for step in range(81)]
    capture = views(poses)
    chosen = choose_context(*capture, 2.0, 10.0, 2)
    assert (chosen % 4 == 0).all()
    pairs = measured((capture[0][chosen], capture[1][chosen]), 2.0, 10.0)
    assert 5 < pairs.angle[0, 1] < 15
    assert len(choose_context(*capture, 2.0, 10.0, 22).unique()) == 22


def test_the_choice_is_the_best_of_all_pairs():
    capture, near, far = CAPTURES["sideways"]
    pairs = measured(capture, near, far)
    quality, angle = pair_quality(pairs), (pairs.angle / 45).clamp(max=1)
    coverage = (pairs.overlap * torch.cos(angle * math.pi / 2)).fill_diagonal_(1)
    scores = {
        (i, j): float(quality[i, j] * torch.maximum(coverage[:, i], coverage[:, j]).sum())
        for i in range(40)
        for j in range(i + 1, 40)
    }
    best = tuple(best_context(pairs, 2).tolist())
    assert scores[best] == pytest.approx(max(scores.values()), rel=1e-3)


def pair(overlap, angle):
    size = torch.ones(2, 2)
    return ViewPairs(overlap * size, angle * size, size)


def test_quality_prefers_a_medium_angle_and_enough_overlap():
    by_angle = [float(pair_quality(pair(0.9, a))[0, 1]) for a in (0.0, 2.0, 8.0, 30.0, 90.0)]
    assert by_angle[0] < by_angle[1] < by_angle[2] == 1 > by_angle[3] > by_angle[4] == 0
    by_overlap = [float(pair_quality(pair(o, 8.0))[0, 1]) for o in (0.0, 0.3, 0.6, 0.9)]
    assert by_overlap == pytest.approx([0, 0.5, 1, 1])
    assert pair_quality(pair(0.9, 8.0)).diagonal().tolist() == [0, 0]
    assert pair_quality(pair(0.0, math.nan)).tolist() == [[0, 0], [0, 0]]
