"""Context choices keep what they promise: overlap, gaps, coverage, nearness, no frame twice."""

from functools import lru_cache

import pytest
import torch

from mvsplat.data.evaluation_index.context_choice import NearestViews, WholeScene
from mvsplat.data.evaluation_index.context_stretches import FrameGaps, OverlapTiers
from mvsplat.data.evaluation_index.scene_overlap import SceneOverlap
from mvsplat.data.faults import UnsuitableScene
from mvsplat.geometry.overlap import frustum_points

DEPTH = 2.0


@lru_cache
def sideways(frames=60, step=0.05):
    """A camera that moves sideways before a wall: i and j overlap by 1 - step |i - j| / depth."""
    extrinsics = torch.eye(4).repeat(frames, 1, 1)
    extrinsics[:, 0, 3] = step * torch.arange(frames)
    intrinsics = torch.eye(3).repeat(frames, 1, 1)
    intrinsics[:, :2, 2] = 0.5
    return SceneOverlap(
        frustum_points(extrinsics, intrinsics, DEPTH, DEPTH, grid=40, depths=1),
        extrinsics,
        intrinsics,
    )


def overlap_of(context, step=0.05):
    gaps = [b - a for a, b in zip(context, context[1:], strict=False)]
    return 1 - step * max(gaps) / DEPTH


def runs(choice, scene=None, seed=0):
    return choice.runs(scene or sideways(), torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("count", [2, 3, 5])
def test_overlap_tiers(count):
    choice = OverlapTiers(context_views=count, runs=3)
    found = runs(choice)
    assert choice.has_several_runs
    limits = {"small": (0.05, 0.3), "medium": (0.3, 0.55), "large": (0.55, 0.8)}
    assert {run.tier for run in found} <= set(limits) and "large" in {run.tier for run in found}
    if count == 2:
        assert [run.tier for run in found] == ["small"] * 3 + ["medium"] * 3 + ["large"] * 3
    for run in found:
        low, high = limits[run.tier]
        assert low - 0.03 < overlap_of(run.context) < high + 0.03
        assert len(run.context) == count and len(set(run.context)) == count
        assert len(run.target) == 3 == len(set(run.target)) and run.target == sorted(run.target)
        assert not set(run.target) & set(run.context)
        assert run.context[0] < run.target[0] and run.target[-1] < run.context[-1]
        gaps = [b - a for a, b in zip(run.context, run.context[1:], strict=False)]
        assert max(gaps) - min(gaps) <= 1


def test_stretches_differ_from_run_to_run_and_from_seed_to_seed():
    choice = OverlapTiers(tiers={"large": (0.5, 1.0)}, runs=200)
    found = [tuple(run.context) for run in runs(choice)]
    assert len(found) == len(set(found)) == 100  # as many as are looked at
    assert len({first for first, _ in found}) > 25
    one = OverlapTiers(tiers={"large": (0.5, 1.0)})
    assert not one.has_several_runs and runs(one) == runs(one)
    assert len({tuple(runs(one, seed=seed)[0].context) for seed in range(20)}) > 15


def test_gap_limits_of_overlap_tiers():
    choice = OverlapTiers(tiers={"any": (0.0, 1.0)}, runs=100, min_gap=7, max_gap=9)
    gaps = {run.context[-1] - run.context[0] for run in runs(choice)}
    assert gaps == {7, 8, 9}


def test_frame_gaps():
    choice = FrameGaps(gaps=[30, 5, 59, 60], targets=4, runs=2, min_coverage=0.0)
    found = runs(choice)
    assert [(run.tier, run.context[-1] - run.context[0]) for run in found] == [
        ("gap 5", 5), ("gap 5", 5), ("gap 30", 30), ("gap 30", 30), ("gap 59", 59)
    ]  # fmt: skip
    assert all(len(set(run.target)) == 4 for run in found)
    with pytest.raises(UnsuitableScene, match="too few frames"):
        runs(FrameGaps(gaps=[60]))


def test_a_stretch_without_room_is_never_taken():
    # Between the ends of a gap of 5 there are 4 frames, 3 of them for targets.
    choice = FrameGaps(context_views=3, targets=3, gaps=[5])
    for seed in range(20):
        (run,) = runs(choice, seed=seed)
        assert len({*run.context, *run.target}) == 6
    with pytest.raises(ValueError, match="gaps is .4.; expected numbers of at least 5"):
        FrameGaps(context_views=3, targets=3, gaps=[4])


def test_gaps_with_enough_overlap():
    choice = FrameGaps(gaps=[10, 30], min_overlap=0.5, runs=3)
    assert {run.tier for run in runs(choice)} == {"gap 10"}
    with pytest.raises(UnsuitableScene, match="no stretch overlaps enough") as error:
        runs(FrameGaps(gaps=[30], min_overlap=0.5))
    assert "overlap by 0.25 to 0.25" in str(error.value.__cause__)


def test_targets_are_covered():
    # A stretch of 59 frames is 1.475 pictures long: its middle is half in neither end's picture.
    choice = FrameGaps(gaps=[59], targets=5, min_coverage=0.8)
    (run,) = runs(choice)
    coverage = [
        min(1.0, max(0, 1 - 0.025 * frame) + max(0, 1 - 0.025 * (59 - frame)))
        for frame in run.target
    ]
    assert min(coverage) > 0.77
    with pytest.raises(UnsuitableScene, match="no stretch overlaps"):
        runs(FrameGaps(gaps=[59], targets=55, min_coverage=0.8))


def test_gaps_from_a_given_frame():
    choice = FrameGaps(context_views=6, targets=8, gaps=[50, 58, 59], start=1, min_coverage=0.0)
    found = runs(choice)
    assert [run.context for run in found] == [[1, 11, 21, 31, 41, 51], [1, 13, 24, 36, 47, 59]]
    assert [run.tier for run in found] == ["gap 50", "gap 58"], "the last is too long from there"
    for run in found:
        assert len(set(run.target)) == 8 and run.context[0] < min(run.target)
        assert max(run.target) < run.context[-1] and not set(run.target) & set(run.context)
    twelve = FrameGaps(12, 3, [44], start=0, min_coverage=0.0)
    assert runs(twelve)[0].context == list(range(0, 45, 4))
    for arguments, message in (
        ({"start": -1}, "start is -1"),
        ({"start": 0, "runs": 2}, "runs is"),
    ):
        with pytest.raises(ValueError, match=message):
            FrameGaps(**arguments)


def test_a_video_has_all_frames_of_the_stretch():
    (run,) = runs(FrameGaps(gaps=[20], targets="all", context_views=3))
    assert run.target == list(range(run.context[0], run.context[-1] + 1)) and len(run.target) == 21


def test_scenes_that_do_not_fit_the_tiers_say_what_they_are_like():
    scene = sideways(10, step=0.01)
    with pytest.raises(UnsuitableScene, match="no stretch overlaps as the tiers ask") as error:
        runs(OverlapTiers(), scene)
    assert "overlap by 0.9" in str(error.value.__cause__)
    with pytest.raises(UnsuitableScene, match="too few frames"):
        runs(OverlapTiers(), sideways(4))
    with pytest.raises(UnsuitableScene, match="no stretch") as error:
        runs(OverlapTiers(max_angle=1.0), sideways(20))
    assert "too different sides" in str(error.value.__cause__)


@pytest.mark.parametrize("count", [2, 4])
def test_the_whole_scene(count):
    choice = WholeScene(context_views=count, targets=5)
    (run,) = runs(choice)
    assert not choice.has_several_runs and run.tier is None
    assert len({*run.context, *run.target}) == count + 5
    nearest = [min(abs(frame - view) for view in run.context) for frame in run.target]
    assert max(nearest) <= 16  # at least 0.6 of it is covered
    assert runs(choice, seed=1)[0].context == run.context
    assert runs(choice, seed=1)[0].target != run.target
    (all_covered,) = runs(WholeScene(context_views=count, targets="all"))
    assert set(run.target) <= set(all_covered.target)
    with pytest.raises(UnsuitableScene, match="cover too few"):
        runs(WholeScene(targets=5, min_coverage=0.999), sideways(10, step=1.5))
    with pytest.raises(UnsuitableScene, match="too few frames"):
        runs(WholeScene(context_views=8, targets=3), sideways(10))


@pytest.mark.parametrize("count", [1, 2, 3])
def test_nearest_views(count):
    found = runs(NearestViews(context_views=count, targets=6))
    targets = sorted(frame for run in found for frame in run.target)
    # One target in each sixth of the scene.
    assert [frame // 10 for frame in targets] == list(range(6))
    for run in found:
        for target in run.target:
            others = sorted(range(60), key=lambda f: (abs(f - target), f))[1:]
            worst = abs(others[count - 1] - target)
            assert all(0 < abs(view - target) <= worst for view in run.context)
            assert len(run.context) == count


def test_every_frame_in_turn_and_shared_context():
    found = runs(NearestViews(context_views=3, targets="all"), sideways(4))
    # Each of four frames has the three others as context.
    assert sorted(tuple(run.target) for run in found) == [(0,), (1,), (2,), (3,)]
    scene = sideways(5, step=0.1).subset(torch.tensor([0, 1, 1, 2, 3]))  # twice at one place
    found = runs(NearestViews(context_views=1, targets="all"), scene)
    assert sum(len(run.target) for run in found) == 5 and len(found) < 5


def test_nearest_views_must_show_the_same():
    scene = sideways(6, step=1.5)  # neighbours overlap by a quarter, others do not
    found = runs(NearestViews(context_views=2, targets="all", min_overlap=0.2), scene)
    assert sorted(run.target[0] for run in found) == [1, 2, 3, 4]
    with pytest.raises(UnsuitableScene, match="no frame has enough other views"):
        runs(NearestViews(min_overlap=0.3), scene)
    with pytest.raises(UnsuitableScene, match="no frame has enough other views"):
        runs(NearestViews(max_angle=2.0), scene)
    with pytest.raises(UnsuitableScene, match="too few frames"):
        runs(NearestViews(context_views=6), scene)


@pytest.mark.parametrize(
    ("kind", "arguments", "message"),
    [
        (OverlapTiers, {"context_views": 1}, "context_views is 1; it must be at least 2"),
        (OverlapTiers, {"targets": 0}, "targets is 0"),
        (OverlapTiers, {"runs": 0}, "runs is 0"),
        (OverlapTiers, {"tiers": {}}, "tiers is empty"),
        (OverlapTiers, {"tiers": {"a": (0.5, 0.5)}}, "tier 'a' is 0.5 to 0.5"),
        (OverlapTiers, {"tiers": {"a": (0.5, 1.5)}}, "tier 'a' is 0.5 to 1.5"),
        (OverlapTiers, {"max_angle": 0.0}, "max_angle is 0.0"),
        (OverlapTiers, {"min_gap": 5, "max_gap": 4}, "max_gap is 4"),
        (FrameGaps, {"gaps": []}, "gaps is ..; expected"),
        (FrameGaps, {"min_overlap": 2.0}, "min_overlap is 2.0; expected 0 to 1"),
        (WholeScene, {"context_views": 0}, "context_views is 0"),
        (WholeScene, {"min_coverage": -0.1}, "min_coverage is -0.1"),
        (NearestViews, {"targets": 0}, "targets is 0"),
        (NearestViews, {"max_angle": 200.0}, "max_angle is 200.0"),
    ],
)
def test_bad_arguments_are_refused(kind, arguments, message):
    with pytest.raises(ValueError, match=message):
        kind(**arguments)
