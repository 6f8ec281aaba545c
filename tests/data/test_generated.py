import pytest
from mvsplat.data.generated import GeneratedScenes


def test_it(tmp_path):
    g = GeneratedScenes(str(tmp_path), 2, 2, frames=3, image_shape=(32, 48))
    g.prepare()
    assert len(g.keys("train")) == 2
