"""A COLMAP model with other poses, by pycolmap in its own process: ``-m MODULE SOURCE TARGET``.

Standard input is a JSON object: from the name of an image to its world-to-camera matrix, 3 x 4.
"""

import json
import sys
from pathlib import Path

import numpy as np
import pycolmap


def main(source: Path, target: Path) -> None:
    """Read the model in a folder and write it to another one, with the poses that are given."""
    poses = json.load(sys.stdin)
    model = pycolmap.Reconstruction(source)
    for image in model.images.values():
        if image.name in poses:
            pose = pycolmap.Rigid3d(np.array(poses[image.name], np.float64))
            image.frame.set_cam_from_world(image.camera_id, pose)
    model.update_point_3d_errors()
    model.write_binary(target)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
