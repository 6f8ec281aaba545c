"""The learning rate of every step, against the published curve in closed form."""

import math

import pytest
import torch

from mvsplat.schedules import LinearWarmup, OneCycle


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


def test_one_cycle_outlasts_the_run_by_ten_steps():
    learning_rates(OneCycle(), 50, 60)
    with pytest.raises(ValueError):
        learning_rates(OneCycle(), 50, 61)


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
