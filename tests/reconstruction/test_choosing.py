"""Which photographs are held out."""

import pytest

from mvsplat.reconstruction.choosing import held_out_frames


def named(count):
    return [f"IMG_{number}.jpg" for number in range(count)]


@pytest.mark.parametrize(
    "total, expected",
    [(2, []), (5, []), (6, [3]), (11, [3]), (12, [3, 11]), (17, [3, 11]), (20, [3, 11, 19])],
)
def test_by_itself_every_eighth_photo_of_six_or_more(total, expected):
    assert held_out_frames(named(total)) == expected


def test_never_more_than_twelve_by_themselves():
    assert held_out_frames(named(400)) == list(range(3, 99, 8))


@pytest.mark.parametrize("total, number", [(8, 0), (8, 1), (8, 3), (9, 7), (200, 12)])
def test_a_number_of_them_is_evenly_spread(total, number):
    chosen = held_out_frames(named(total), number)
    assert len(set(chosen)) == number and all(0 <= frame < total for frame in chosen)
    gaps = [b - a for a, b in zip(chosen, chosen[1:], strict=False)]
    assert not gaps or max(gaps) - min(gaps) <= 1


def test_names_with_or_without_their_suffix_or_numbers():
    assert held_out_frames(named(5), ["IMG_4.jpg", "IMG_1"]) == [1, 4]
    assert held_out_frames(["7", "8", "9"], [8]) == [1]


@pytest.mark.parametrize(
    "held_out, message",
    [
        (-1, "held_out is -1"),
        (4, "4 of 5 photos: at least 2"),
        (9, "9 of 5 photos"),
        (["IMG_44.jpg"], "'IMG_44.jpg'.*did you mean IMG_4.jpg"),
        (["door"], "'door'.*they are IMG_0.jpg"),
    ],
)
def test_what_cannot_be_is_said(held_out, message):
    with pytest.raises(ValueError, match=message):
        held_out_frames(named(5), held_out)
