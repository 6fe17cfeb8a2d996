"""A z-buffer over flat faces: for every sample the nearest face and its inverse depth."""

import dataclasses

import numpy as np

from mtl_keras.data.street_scenes import silhouettes
from mtl_keras.data.street_scenes.camera import Camera
from mtl_keras.data.street_scenes.mesh import Faces, Shape

NEAR = 0.4
NOTHING = -1


@dataclasses.dataclass(frozen=True)
class Planes:
    """Linear forms of a ray (x, y, 1) for every face, in camera coordinates.

    On a face's plane the depth z obeys 1 / z = inverse · (x, y, 1), and the place on the face, 0 to 1 from the bottom
    left corner to the bottom right (across) and to the top left (up), is z · (form · (x, y, 1)) − offset.
    """

    inverse: np.ndarray  # (faces, 3)
    across: np.ndarray  # (faces, 4): the form and its offset
    up: np.ndarray  # (faces, 4)
    normals: np.ndarray  # (faces, 3) unit, turned to the camera
    lengths: np.ndarray  # (2, faces) metres that 0 to 1 stands for


def plane_forms(faces: Faces, camera: Camera) -> tuple[Planes, np.ndarray, np.ndarray]:
    """The planes of all faces, their corners in camera coordinates and which of them show their front."""
    corners = camera.to_camera(faces.corners)
    origin = corners[:, 0]
    first, second = corners[:, 1] - origin, corners[:, 3] - origin
    normal = _cross(second, first)
    length = np.sqrt(_dot(normal, normal))
    safe = np.maximum(length, 1e-12)
    # Camera coordinates are right-handed (down, not up), so this normal points out of the face.
    normal = -normal / safe[:, None]
    distance = _dot(normal, origin)
    visible = (length > 1e-9) & (np.abs(distance) > 1e-6) & (faces.two_sided | (distance < 0))
    normal = np.where(distance[:, None] > 0, -normal, normal)
    distance = np.where(visible, -np.abs(distance), -1.0)
    forms = []
    for edge, other in ((first, second), (second, first)):
        form = _cross(other, normal)
        scale = _dot(edge, form)
        form = form / np.where(np.abs(scale) > 1e-12, scale, 1.0)[:, None]
        forms.append(np.concatenate([form, _dot(form, origin)[:, None]], axis=1))
    lengths = np.sqrt(np.stack([_dot(first, first), _dot(second, second)]))
    return Planes(normal / distance[:, None], forms[0], forms[1], normal, lengths), corners, visible


def rasterise(faces: Faces, camera: Camera) -> tuple[np.ndarray, np.ndarray, Planes]:
    """Finds what every sample sees.

    Returns:
        The inverse depth (2·height + 1, 2·width + 1) float32, 0 where nothing is; the index of the face, int32, −1
        where nothing is; and the planes of all faces.
    """
    planes, corners, visible = plane_forms(faces, camera)
    columns, rows = camera.columns, camera.rows
    inverse_depth = np.zeros((rows.size, columns.size), np.float32)
    index = np.full(inverse_depth.shape, NOTHING, np.int32)
    kept, outlines = _outlines(corners, np.flatnonzero(visible))
    spans = _Spans(outlines, columns, rows)
    narrow_columns, narrow_rows = columns.astype(np.float32), rows.astype(np.float32)
    inverse, shapes, plain = planes.inverse.astype(np.float32), faces.shapes.tolist(), int(Shape.POLYGON)
    for number in np.flatnonzero(spans.nonempty).tolist():
        face = kept[number]
        top, bottom, left, right = spans.box[number]
        x, y = narrow_columns[left:right], narrow_rows[top:bottom]
        a, b, c = inverse[face]
        candidate = (a * x)[None, :] + (b * y + c)[:, None]
        held = inverse_depth[top:bottom, left:right]
        mask = candidate > held
        low, high = spans.reach(number, rows[top:bottom])
        wide = columns[left:right]
        mask &= wide >= low[:, None]
        mask &= wide <= high[:, None]
        if shapes[face] != plain:
            across, up = _places(planes, face, x, y, candidate)
            mask &= silhouettes.cut(shapes[face], across, up, planes.lengths[:, face], faces.parameters[:, face])
        np.copyto(held, candidate, where=mask)
        np.copyto(index[top:bottom, left:right], np.int32(face), where=mask)
    return inverse_depth, index, planes


def _places(planes: Planes, face: int, x: np.ndarray, y: np.ndarray, inverse: np.ndarray):
    """Where on a face the rays of a box meet its plane, each 0 to 1."""
    depth = 1.0 / np.maximum(inverse, 1e-6)
    places = []
    for form in (planes.across[face], planes.up[face]):
        a, b, c, offset = form.astype(np.float32)
        places.append(((a * x)[None, :] + (b * y + c)[:, None]) * depth - offset)
    return places


class _Spans:
    """For every convex outline: the box of samples that holds it and, in each row, where it starts and ends."""

    def __init__(self, outlines: np.ndarray, columns: np.ndarray, rows: np.ndarray):
        x0, y0 = outlines[..., 0], outlines[..., 1]
        x1, y1 = np.roll(x0, -1, axis=1), np.roll(y0, -1, axis=1)
        fall = y1 - y0
        slope = (x1 - x0) / np.where(np.abs(fall) > 1e-12, fall, 1.0)
        base = x0 - slope * y0
        area = (x0 * y1 - x1 * y0).sum(axis=1)
        # Seen with y downwards, an outline of positive area has its left edges going up.
        rising = np.where(np.abs(fall) > 1e-12, np.where(area[:, None] > 0, -fall, fall), 0.0)
        self._left = np.where(rising > 0, base, -np.inf), np.where(rising > 0, slope, 0.0)
        self._right = np.where(rising < 0, base, np.inf), np.where(rising < 0, slope, 0.0)
        bounds = [_range(rows, y0.min(axis=1), y0.max(axis=1)), _range(columns, x0.min(axis=1), x0.max(axis=1))]
        self.box = np.stack([*bounds[0], *bounds[1]], axis=1)
        self.nonempty = (self.box[:, 0] < self.box[:, 1]) & (self.box[:, 2] < self.box[:, 3])

    def reach(self, number: int, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        low = (self._left[0][number][:, None] + self._left[1][number][:, None] * rows).max(axis=0)
        high = (self._right[0][number][:, None] + self._right[1][number][:, None] * rows).min(axis=0)
        return low, high


def _range(grid: np.ndarray, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First index and end of the evenly spaced grid's members between two bounds."""
    return np.searchsorted(grid, low, "left"), np.searchsorted(grid, high, "right")


def _outlines(corners: np.ndarray, candidates: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Projects faces to closed outlines of five points, cutting off what lies nearer than the near plane."""
    depth = corners[candidates, :, 2]
    whole = candidates[(depth >= NEAR).all(axis=1)]
    partial = candidates[(depth >= NEAR).any(axis=1) & (depth < NEAR).any(axis=1)]
    outlines = [corners[whole][:, (0, 1, 2, 3, 3)]]
    outlines += [_cut_near(corners[face])[None] for face in partial]
    points = np.concatenate(outlines)
    return np.concatenate([whole, partial]), points[..., :2] / points[..., 2:]


def _cut_near(corners: np.ndarray) -> np.ndarray:
    """The part of a quadrilateral beyond the near plane, as five points."""
    kept = []
    for start, end in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        if start[2] >= NEAR:
            kept.append(start)
        if (start[2] >= NEAR) != (end[2] >= NEAR):
            kept.append(start + (end - start) * ((NEAR - start[2]) / (end[2] - start[2])))
    return np.array((kept + kept[-1:] * 5)[:5])


def _dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return a[:, 0] * b[:, 0] + a[:, 1] * b[:, 1] + a[:, 2] * b[:, 2]


def _cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.stack(
        [
            a[:, 1] * b[:, 2] - a[:, 2] * b[:, 1],
            a[:, 2] * b[:, 0] - a[:, 0] * b[:, 2],
            a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0],
        ],
        axis=1,
    )
