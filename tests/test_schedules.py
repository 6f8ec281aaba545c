"""The learning rate of every step, against the published curve in closed form."""

import math

import pytest
import torch

from mvsplat.schedules import LinearWarmup, OneCycle, WarmupStableDecay


def learning_rates(schedule, max_steps, steps, lr=2e-4):
    optimizer = torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))], lr=lr)
    scheduler = schedule.build(optimizer, max_steps)
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


def one_cycle(step, max_steps, lr, warmup=0.01):
    """lr / 25 rises to lr by a cosine over 1 % of max_steps + 10 steps, then falls to lr / 25e4."""
    total = max_steps + 10
    peak = warmup * total - 1

    def cosine(start, end, share):
        return end + (start - end) / 2 * (1 + math.cos(math.pi * share))

    if step <= peak:
        return cosine(lr / 25, lr, step / peak)
    return cosine(lr, lr / 25e4, (step - peak) / (total - 1 - peak))


def test_one_cycle_is_the_published_curve():
    rates = learning_rates(OneCycle(), 1000, 1000)
    expected = [one_cycle(step, 1000, 2e-4) for step in range(1000)]
    assert rates == pytest.approx(expected, rel=1e-6)
    assert max(rates) == pytest.approx(2e-4, rel=0.01)
    assert rates[-1] < 1e-3 * 2e-4


def test_one_cycle_is_torchs():
    optimizer = torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))], lr=3e-4)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 3e-4, 210, pct_start=0.1, cycle_momentum=False, anneal_strategy="cos"
    )
    rates = []
    for _ in range(210):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if len(rates) < 210:
            scheduler.step()
    assert learning_rates(OneCycle(0.1), 200, 210, lr=3e-4) == pytest.approx(rates, rel=1e-6)


def test_one_cycle_resumed_for_longer_takes_the_new_length():
    def resumed(schedule):
        parameters = [torch.nn.Parameter(torch.zeros(1))]
        optimizer = torch.optim.Adam(parameters, lr=2e-4)
        short = schedule.build(optimizer, 4)
        for _ in range(4):
            optimizer.step()
            short.step()
        again = torch.optim.Adam(parameters, lr=2e-4)
        long = schedule.build(again, 1000)
        again.load_state_dict(optimizer.state_dict())
        long.load_state_dict(short.state_dict())
        again.step()
        long.step()
        return again.param_groups[0]["lr"]

    assert resumed(OneCycle()) == pytest.approx(one_cycle(5, 1000, 2e-4), rel=1e-6)


def test_one_cycle_without_a_length_says_what_to_set():
    with pytest.raises(ValueError, match="trainer.max_steps"):
        learning_rates(OneCycle(), -1, 1)


def test_linear_warmup_rises_and_stays():
    rates = learning_rates(LinearWarmup(steps=4), -1, 7, lr=1.0)
    assert rates == pytest.approx([0.25, 0.5, 0.75, 1, 1, 1, 1])


@pytest.mark.parametrize("make", [lambda: OneCycle(1.0), lambda: LinearWarmup(0)])
def test_impossible_settings_are_refused(make):
    with pytest.raises(ValueError, match="must be"):
        make()


def test_warmup_stable_decay_rises_stays_and_falls():
    rates = learning_rates(WarmupStableDecay(10, 40), 100, 100, lr=1e-3)
    assert rates[:10] == pytest.approx([1e-3 * (step + 1) / 10 for step in range(10)])
    assert rates[10:61] == pytest.approx([1e-3] * 51)
    falling = [1e-3 * (1 - math.sqrt((step - 60) / 40)) for step in range(60, 100)]
    assert rates[60:] == pytest.approx(falling) and 0 < rates[-1] < 2e-5


def test_a_longer_run_is_the_same_until_the_shorter_one_falls():
    schedule = WarmupStableDecay(10, 40)
    short, long = learning_rates(schedule, 100, 60), learning_rates(schedule, 1000, 60)
    assert short == long


@pytest.mark.parametrize(("arguments", "steps"), [((0, 10), 100), ((10, 0), 100), ((10, 10), -1)])
def test_warmup_stable_decay_without_sense_is_refused(arguments, steps):
    with pytest.raises(ValueError, match="WarmupStableDecay|warmup_steps is"):
        learning_rates(WarmupStableDecay(*arguments), steps, 1)
