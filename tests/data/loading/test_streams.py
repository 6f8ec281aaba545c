"""Streams are split without overlap, end where they should, and go on where they were."""

from collections import Counter
from itertools import islice

from hypothesis import given, settings
from hypothesis import strategies as st

from mvsplat.data.loading.streams import (
    EndlessPlan,
    ExactlyOncePlan,
    FixedPlan,
    InOrder,
    RankShare,
    ShuffledOrder,
    StreamStart,
    combined_seed,
    make_generator,
)

worlds = st.integers(1, 5)
batch_sizes = st.integers(1, 4)


def positions(batches):
    return [request.position for batch in batches for request in batch]


@given(worlds, batch_sizes, st.integers(0, 100))
def test_training_is_split_without_overlap_or_gap(world, size, start):
    taken = []
    for rank in range(world):
        plan = EndlessPlan(RankShare(size, rank, world), start=lambda: StreamStart(start))
        taken += positions(islice(plan, 7))
    assert sorted(taken) == list(range(start, start + 7 * size * world))


@given(worlds, batch_sizes, st.integers(1, 4), st.integers(0, 30))
def test_training_goes_on_where_it_was(world, size, accumulate, done):
    for rank in range(world):
        share = RankShare(size, rank, world)
        whole = list(islice(EndlessPlan(share, accumulate), done + 9))
        start = StreamStart(done * size * world, done // accumulate, done % accumulate)
        assert list(islice(EndlessPlan(share, accumulate, lambda: start), 9)) == whole[done:]


def test_steps_follow_the_optimizer():
    steps = [batch[0].step for batch in islice(EndlessPlan(RankShare(3, 1, 2), 4), 10)]
    assert steps == [0, 0, 0, 0, 1, 1, 1, 1, 2, 2]
    # Position // (batch size x ranks x accumulation), as long as nothing changes.
    for batch in islice(EndlessPlan(RankShare(3, 1, 2), 4), 10):
        assert all(request.step == request.position // (3 * 2 * 4) for request in batch)


@given(worlds, batch_sizes, st.integers(0, 40))
def test_testing_takes_everything_exactly_once(world, size, count):
    taken, lengths = [], []
    for rank in range(world):
        plan = ExactlyOncePlan(RankShare(size, rank, world), count)
        batches = list(plan)
        # Among several ranks none claims to have nothing: it would leave before the others meet.
        assert len(plan) == max(len(batches), 1 if world > 1 else 0)
        assert all(0 < len(batch) <= size for batch in batches)
        lengths.append(len(batches))
        taken += positions(batches)
    assert sorted(taken) == list(range(count))
    assert max(lengths) - min(lengths) <= 1


@given(worlds, batch_sizes, st.integers(1, 40))
def test_validation_has_equally_many_batches_on_every_rank(world, size, count):
    plans = [FixedPlan(RankShare(size, rank, world), count) for rank in range(world)]
    assert len({len(plan) for plan in plans}) == 1
    taken = positions(batch for plan in plans for batch in plan)
    assert len(set(taken)) == len(taken) and set(range(count)) <= set(taken)
    assert len(taken) - count < size * world
    assert all(len(list(plan)) == len(plan) for plan in plans)
    if world == 1:
        assert sorted(taken) == list(range(count))


def test_validation_can_move_on():
    start = iter([0, 10])
    plan = FixedPlan(RankShare(2), 4, lambda: next(start))
    assert positions(plan) == [0, 1, 2, 3] and positions(plan) == [10, 11, 12, 13]


@settings(max_examples=30)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=12), st.integers(1, 5), st.integers(0, 9))
def test_every_epoch_is_another_permutation(sizes, window, seed):
    groups, count = [], 0
    for size in sizes:
        groups.append(list(range(count, count + size)))
        count += size
    order = ShuffledOrder(groups, window, seed)
    epochs = [[order.at(epoch * count + place) for place in range(count)] for epoch in range(3)]
    assert all(sorted(epoch) == list(range(count)) for epoch in epochs)
    if count > 12:
        assert len({tuple(epoch) for epoch in epochs}) == 3
    again = ShuffledOrder(groups, window, seed)
    assert [again.at(2 * count + place) for place in range(count)] == epochs[2]
    assert [order.at(place, 1) for place in range(count)] == epochs[0][1:] + epochs[0][:1]


def test_only_a_window_of_groups_is_open_at_a_time():
    groups = [list(range(10 * number, 10 * number + 10)) for number in range(20)]
    order = ShuffledOrder(groups, 4, 0)
    for window in range(5):
        opened = {order.at(40 * window + place) // 10 for place in range(40)}
        assert len(opened) == 4
    first = [order.at(place) // 10 for place in range(40)]
    assert len(set(first[:10])) == 4  # mixed, not one group after the other


def test_orders_depend_on_the_seed():
    orders = [ShuffledOrder([list(range(50))], 1, seed) for seed in (0, 1)]
    assert orders[0].at(0) != orders[1].at(0) or orders[0].at(1) != orders[1].at(1)
    assert [InOrder(3).at(position) for position in range(5)] == [0, 1, 2, 0, 1]


def test_seeds_are_told_apart():
    seeds = [combined_seed(*numbers) for numbers in [(0,), (1,), (0, 1), (1, 0), (0, 0), (0, 1, 0)]]
    assert len(set(seeds)) == len(seeds)
    draws = Counter(int(make_generator(0, n).initial_seed() % 10) for n in range(1000))
    assert min(draws.values()) > 60
