"""Procedural rooms, rendered exactly by ray casting: what the generated scenes are made of.

From the outside in: :mod:`generated_scenes` is the source; :mod:`filming` turns a :mod:`recipe`
into scenes on all cores; :mod:`furnished_rooms` draws a room and a camera path that suit each
other; :mod:`rooms` and :mod:`furniture` build worlds out of the parts in :mod:`world`; :mod:`paths`
walks through them; :mod:`rendering` renders a frame by deferred shading, in three compiled steps
that know nothing of each other: :mod:`raycast` (what is seen), :mod:`texture` (its colour) and
:mod:`light`.

Conventions: metres, world z up, OpenCV cameras, linear light until a picture is finished.
"""

from mvsplat.data.generated.generated_scenes import GeneratedScenes

__all__ = ["GeneratedScenes"]
