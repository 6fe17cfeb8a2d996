"""Procedural street scenes with exact labels and metric depth, in NumPy alone.

A scene is a set of flat textured faces seen by a pinhole camera through a z-buffer: `layout` decides what stands where,
`street`, `buildings`, `vehicles`, `people`, `plants` and `furniture` build it, `raster` finds what every sample sees,
and `weather`, `shadows` and `photograph` turn that into a picture.

Example:
    >>> scene = render_scene(seed=7, height=128, width=256)
    >>> scene.image.shape, scene.semseg.shape, scene.depth.shape
    ((128, 256, 3), (128, 256), (128, 256))
"""

from mtl_keras.data.street_scenes.render import Scene, render_scene

__all__ = ["Scene", "render_scene"]
