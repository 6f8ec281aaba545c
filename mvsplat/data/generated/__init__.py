"""Procedural scenes, rendered exactly by ray casting.

From the outside in: :mod:`generated_scenes` (rooms) and :mod:`varied_scenes` (of many kinds) are
the sources, both :mod:`written_scenes`; :mod:`filming` turns what they draw into scenes on all
cores. A *shot* is a world with a camera path that suits it: :mod:`furnished_rooms` draws rooms
from :mod:`rooms` and :mod:`furniture` and walks through them by :mod:`paths`;
:mod:`varied_shots` draws a setting, :mod:`outdoors` with what stands in :mod:`street` and
:mod:`greenery` or :mod:`indoors`, of the materials in :mod:`surfaces`, and films it by
:mod:`journeys`. Worlds are put together from the parts in :mod:`world`; :mod:`rendering` renders a
frame by deferred shading, in compiled steps that know nothing of each other: :mod:`raycast` (what
is seen), :mod:`texture` (its colour), :mod:`light`, and :mod:`gloss` (what is mirrored).

Conventions: metres, world z up, OpenCV cameras, linear light until a picture is finished.
"""

from mvsplat.data.generated.generated_scenes import GeneratedScenes
from mvsplat.data.generated.varied_scenes import VariedScenes

__all__ = ["GeneratedScenes", "VariedScenes"]
