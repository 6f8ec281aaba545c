"""Furnished rooms as chunk entries, without writing them."""

from functools import partial

from mvsplat.data.generated.filming import film_scenes
from mvsplat.data.generated.furnished_rooms import draw_shot


def film_rooms(recipe, split, count):
    """The first rooms of a split, with exact depth."""
    return film_scenes(partial(draw_shot, recipe=recipe), recipe.seed, split, count)
