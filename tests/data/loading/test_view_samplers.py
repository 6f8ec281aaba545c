"""View samplers choose what they promise, and say why they cannot."""

import json

import pytest
import torch

from mvsplat.data.evaluation_index.view_sampler import EvaluationViewSampler
from mvsplat.data.faults import UnsuitableScene
from mvsplat.data.loading.streams import make_generator
from mvsplat.data.loading.view_samplers import (
    AllViewSampler,
    ArbitraryViewSampler,
    BoundedViewSampler,
    MiddleViewSampler,
)
from mvsplat.data.scene import Scene


class Frames(Scene):
    """As much of a scene as samplers look at."""

    def __init__(self, count: int, key: str = "scene"):
        self.extrinsics, self.key = torch.eye(4).expand(count, 4, 4), key

    def image(self, index):
        raise AssertionError("samplers must not look at pictures")


def draw(sampler, frames: int, step: int = 0, seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    context, target = sampler.sample(Frames(frames), step, generator)
    return context.tolist(), target.tolist()


def gaps(sampler, frames, step, draws=200):
    contexts = [draw(sampler, frames, step, seed)[0] for seed in range(draws)]
    return {context[-1] - context[0] for context in contexts}


def test_the_default_gap_is_the_published_effective_one():
    sampler = BoundedViewSampler()
    for step, gap in [(0, 25), (75_000, 35), (149_999, 44), (150_000, 45), (300_000, 45)]:
        assert gaps(sampler, 300, step, 20) == {gap}


def test_the_documented_random_gap():
    sampler = BoundedViewSampler(
        min_gap=45, max_gap=192, initial_min_gap=25, initial_max_gap=45, warm_up_steps=150_000
    )
    assert sampler.gap_bounds(0) == (25, 45)
    assert sampler.gap_bounds(75_000) == (35, 118)
    assert sampler.gap_bounds(150_000) == (45, 192)
    assert gaps(sampler, 400, 0, 500) == set(range(25, 46))
    assert max(gaps(sampler, 100, 200_000)) == 99  # a short scene lowers the upper bound


def test_bounds_may_shrink_or_be_final_at_once():
    shrinking = BoundedViewSampler(
        min_gap=2, max_gap=4, initial_min_gap=10, initial_max_gap=20, warm_up_steps=10
    )
    assert [shrinking.gap_bounds(step) for step in (0, 5, 10, 99)] == [
        (10, 20), (6, 12), (2, 4), (2, 4)
    ]  # fmt: skip
    assert BoundedViewSampler(min_gap=3, max_gap=9, warm_up_steps=0).gap_bounds(0) == (3, 9)
    constant = BoundedViewSampler(min_gap=3, max_gap=9, initial_min_gap=None, initial_max_gap=None)
    assert constant.gap_bounds(0) == constant.gap_bounds(10**6) == (3, 9)


@pytest.mark.parametrize("views", [2, 3, 5])
@pytest.mark.parametrize("margin", [0, 2])
def test_bounded_views_lie_where_they_should(views, margin):
    sampler = BoundedViewSampler(
        views, 3, min_gap=6, max_gap=8, warm_up_steps=0, target_margin=margin
    )
    firsts, targets = set(), set()
    for seed in range(300):
        context, target = draw(sampler, 12, seed=seed)
        assert len(context) == views == len(set(context)) and context == sorted(context)
        assert 6 <= context[-1] - context[0] <= 8 and 0 <= context[0] and context[-1] < 12
        assert len(target) == 3
        assert all(context[0] + margin <= t <= context[-1] - margin for t in target)
        firsts.add(context[0])
        targets.update(t - context[0] for t in target)
    assert firsts == set(range(6))
    assert targets == set(range(margin, 9 - margin))


def test_too_short_scenes_are_unsuitable():
    assert draw(BoundedViewSampler(), 26)[0] == [0, 25]
    for sampler, frames in [
        (BoundedViewSampler(), 25),
        (BoundedViewSampler(min_gap=1, max_gap=1, warm_up_steps=0, target_margin=4), 8),
        (BoundedViewSampler(5, min_gap=1, max_gap=2, warm_up_steps=0), 4),
        (MiddleViewSampler(3), 2),
        (ArbitraryViewSampler(2, 2), 3),
        (AllViewSampler(), 2),
        (AllViewSampler([0, 7]), 7),
    ]:
        with pytest.raises(UnsuitableScene, match="too few frames"):
            draw(sampler, frames)


def test_the_middle_is_even_and_always_the_same():
    assert draw(MiddleViewSampler(2, 3, gap=4), 11) == ([3, 7], [4, 5, 6])
    assert draw(MiddleViewSampler(3, 1, gap=None), 7) == ([0, 3, 6], [3])
    assert draw(MiddleViewSampler(gap=45), 7, seed=1) == draw(MiddleViewSampler(gap=45), 7, seed=2)
    assert draw(MiddleViewSampler(2, 5), 7) == ([0, 6], [1, 2, 3, 4, 5])


def test_arbitrary_views_are_distinct_and_reach_every_frame():
    seen = set()
    for seed in range(100):
        context, target = draw(ArbitraryViewSampler(3, 2), 8, seed=seed)
        assert len({*context, *target}) == 5
        seen.update(context, target)
    assert seen == set(range(8))


def test_all_other_frames_are_targets():
    assert draw(AllViewSampler(), 5) == ([0, 4], [1, 2, 3])
    assert draw(AllViewSampler([-2, 0, 1]), 5) == ([3, 0, 1], [2, 4])


def test_evaluation_index(tmp_path):
    path = tmp_path / "index.json"
    entry = {"context": [4, 1], "target": [2, 3, 3], "overlap": 0.5}
    path.write_text(json.dumps({"scene": entry, "none": None, "gone": entry}))
    sampler = EvaluationViewSampler(str(path))
    assert draw(sampler, 5) == ([4, 1], [2, 3])  # a target that is there twice counts once
    with pytest.raises(UnsuitableScene, match="fewer frames than the evaluation index names") as e:
        draw(sampler, 4)
    assert "names frame 4 of 'scene', which has 4 frames" in str(e.value.__cause__)
    generator = torch.Generator()
    with pytest.raises(UnsuitableScene, match="not in the evaluation index"):
        sampler.sample(Frames(9, "other"), 0, generator)
    with pytest.raises(UnsuitableScene, match="null in the evaluation index"):
        sampler.sample(Frames(9, "none"), 0, generator)
    choice = sampler.choose(["other", "none", "scene"])
    assert choice.samples == {"scene": "scene"}
    assert choice.left_out == {
        "not in the evaluation index": ["other"],
        "null in the evaluation index": ["none"],
    }
    assert choice.unusable == {"in the evaluation index, but not in the data": {"gone": ""}}
    assert len(choice.remarks) == 1 and "scene: frame 3" in choice.remarks[0]


def test_a_bad_entry_of_an_evaluation_index_is_left_out_alone(tmp_path):
    path = tmp_path / "index.json"
    good = {"context": [0, 6], "target": [2]}
    path.write_text(json.dumps({"aa": good, "bb": good | {"context": [-1, 6]}}))
    choice = EvaluationViewSampler(str(path)).choose(["aa", "bb", "cc"])
    assert choice.samples == {"aa": "aa"}
    assert choice.left_out == {"not in the evaluation index": ["cc"]}
    problem = choice.unusable["bad entry in the evaluation index"]["bb"]
    assert str(path) in problem and "[-1, 6]" in problem


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not JSON"),
        ("[]", "holds a list"),
        ('{"a": 3}', "scene 'a': expected null or"),
        ('{"a": {"context": [0, 1]}}', "scene 'a': expected null or"),
        ('{"a": {"context": [0, 1], "target": []}}', "scene 'a': expected null or"),
        ('{"a": {"context": [0, -1], "target": [1]}}', "scene 'a': expected null or"),
        ('{"a": {"context": [0, true], "target": [1]}}', "scene 'a': expected null or"),
    ],
)
def test_a_bad_evaluation_index_names_file_and_scene(tmp_path, text, message):
    path = tmp_path / "index.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=rf"index\.json.*{message}"):
        EvaluationViewSampler(str(path)).choose(["a"])
    with pytest.raises(FileNotFoundError, match="no evaluation index"):
        EvaluationViewSampler(str(tmp_path / "none.json")).choose(["a"])


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        (BoundedViewSampler, {"context_views": 1}),
        (BoundedViewSampler, {"target_views": 0}),
        (BoundedViewSampler, {"min_gap": 50}),
        (BoundedViewSampler, {"initial_min_gap": 0}),
        (BoundedViewSampler, {"target_margin": -1}),
        (MiddleViewSampler, {"gap": 0}),
        (ArbitraryViewSampler, {"context_views": 0}),
        (AllViewSampler, {"context": []}),
    ],
)
def test_bad_arguments_are_refused(kind, arguments):
    with pytest.raises(ValueError, match=r"is \d|are \d|cannot be|must be|is empty"):
        kind(**arguments)


@pytest.mark.parametrize("sampler", [BoundedViewSampler, ArbitraryViewSampler])
def test_the_number_of_context_views_may_vary_from_step_to_step(sampler):
    varying = sampler(context_views=(2, 5))
    counts = []
    for step in range(60):
        chosen = varying.for_step(make_generator(0, step))
        again = varying.for_step(make_generator(0, step))
        # All samples of a step have the same number.
        found = {len(draw(chosen, 90, step, seed)[0]) for seed in range(5)}
        assert found == {len(draw(again, 90, step, 7)[0])}
        counts += found
    assert set(counts) == {2, 3, 4, 5}
    assert varying.context_views == (2, 5) and varying.config["init_args"]["context_views"] == [
        2,
        5,
    ]
    # The same draws as ever where the number is fixed.
    fixed = sampler(context_views=3)
    assert draw(fixed.for_step(make_generator(0, 1)), 90) == draw(fixed, 90)


@pytest.mark.parametrize("counts", [(1, 3), (4, 2), 1])
def test_impossible_numbers_of_context_views_are_refused(counts):
    with pytest.raises(ValueError, match="context_views is .* expected a number of at least 2, or"):
        BoundedViewSampler(context_views=counts)
