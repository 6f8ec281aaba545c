"""Context views spread over stretches of a wandering video."""

import pytest
import torch

from mvsplat.data.faults import UnsuitableScene
from mvsplat.data.loading.spread_views import SpreadViewSampler
from mvsplat.data.scene import Scene


class Walk(Scene):
    """Cameras at given places along x."""

    def __init__(self, places):
        self.key, self.extrinsics = "walk", torch.eye(4).repeat(len(places), 1, 1)
        self.extrinsics[:, 0, 3] = torch.tensor(places, dtype=torch.float32)

    def image(self, index):
        raise AssertionError("samplers must not look at pictures")


STEADY = Walk(range(120))
# There and back past the same places, once with a rest between.
RETURNING = Walk([*range(60), *range(59, -1, -1)])
RESTING = Walk([*range(40), *[39] * 40, *range(39, -1, -1)])


def draws(sampler, scene, count=100, step=0):
    for seed in range(count):
        generator = torch.Generator().manual_seed(seed)
        context, target = sampler.for_step(generator).sample(scene, step, generator)
        yield context.tolist(), target.tolist()


@pytest.mark.parametrize("spread", ["even", "random", "farthest"])
@pytest.mark.parametrize("beyond", [0, 5])
def test_stretches_have_the_length_and_the_number_of_views_that_they_should(spread, beyond):
    sampler = SpreadViewSampler(spread=spread, targets_beyond=beyond, min_gap=20, max_gap=50)
    lengths, counts, outside = set(), set(), 0
    for context, target in draws(sampler, STEADY, 300):
        assert context == sorted(set(context)) and target == sorted(set(target))
        first, last = context[0], context[-1]
        lengths.add(last - first)
        counts.add(len(context))
        assert len(target) == 4 and 0 <= target[0] and target[-1] < len(STEADY)
        assert first - beyond <= target[0] and target[-1] <= last + beyond
        outside += target[0] < first or target[-1] > last
    assert min(lengths) == 20 and max(lengths) == 50 and len(lengths) > 25
    assert counts == {2, 3, 4, 5, 6}
    assert (outside > 0) == (beyond > 0)


def test_even_views_are_even():
    for context, _ in draws(SpreadViewSampler(5, spread="even", min_gap=41, max_gap=41), STEADY):
        steps = [b - a for a, b in zip(context, context[1:], strict=False)]
        assert set(steps) <= {10, 11} and sum(steps) == 41


def test_the_farthest_cameras_are_not_those_of_a_rest():
    """From where the camera rests, one view is enough; evenly spaced frames are mostly of it."""
    for spread, most in (("farthest", 1), ("even", 2)):
        sampler = SpreadViewSampler(4, spread=spread, min_gap=70, max_gap=70)
        resting = [
            sum(39 <= frame < 81 for frame in context) for context, _ in draws(sampler, RESTING)
        ]
        assert max(resting) == most
    # Independently: each next view is the farthest from those before it.
    sampler = SpreadViewSampler(3, spread="farthest", min_gap=30, max_gap=30)
    for context, _ in draws(sampler, STEADY):
        assert [frame - context[0] for frame in context] == [0, 15, 30]


def test_the_nearest_frames_are_those_of_the_way_back_too():
    sampler = SpreadViewSampler(3, spread="nearest", min_gap=20, max_gap=20)
    places = RETURNING.extrinsics[:, 0, 3]
    both_ways = 0
    for context, target in draws(sampler, RETURNING):
        # 21 frames, there and back, are of about eleven neighbouring places.
        frames = [*context, *target]
        assert float(places[frames].max() - places[frames].min()) <= 11
        assert len({float(places[frame]) for frame in context}) == 3
        both_ways += min(frames) < 60 and max(frames) >= 60
    assert both_ways > 50


def test_bounds_change_over_the_warm_up():
    sampler = SpreadViewSampler(
        2, min_gap=30, max_gap=40, initial_min_gap=10, initial_max_gap=10, warm_up_steps=10
    )
    for step, low, high in ((0, 10, 10), (5, 20, 25), (10, 30, 40)):
        lengths = {context[-1] - context[0] for context, _ in draws(sampler, STEADY, step=step)}
        assert min(lengths) >= low and max(lengths) <= high


@pytest.mark.parametrize(
    ("scene", "spread", "reason"),
    [
        (Walk(range(20)), "even", "too few frames for the gap"),
        (Walk([0, 1] * 30), "farthest", "the camera was at too few places"),
        (Walk([0, 1] * 30), "nearest", "the camera was at too few places"),
    ],
)
def test_scenes_that_do_not_suit_say_why(scene, spread, reason):
    with pytest.raises(UnsuitableScene, match=reason):
        list(draws(SpreadViewSampler(3, spread=spread), scene))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"context_views": 1}, "context_views is 1"),
        ({"min_gap": 9, "max_gap": 9, "target_views": 11}, "more than the 10 frames"),
        ({"targets_beyond": -1}, "targets_beyond is -1"),
        ({"spread": "nearest", "targets_beyond": 2}, "for stretches of a video"),
        ({"min_gap": 5, "max_gap": 4}, "min_gap and max_gap are 5 and 4"),
    ],
)
def test_bad_arguments_are_refused(arguments, expected):
    with pytest.raises(ValueError, match=expected):
        SpreadViewSampler(**arguments)
