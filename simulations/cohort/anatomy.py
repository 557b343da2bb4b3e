"""One patient's head: the template under that patient's deformation, sampled on any grid."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter, map_coordinates

from shared_model.grid import ModelGrid
from simulations.cohort.atrophy import atrophy_velocity, log_volume_change
from simulations.cohort.deformation import Field, compose, exponential, smooth_noise
from simulations.cohort.subject import Subject, Visit
from simulations.cohort.template import (
    FIELD_ORIGIN_MM,
    FIELD_SHAPE,
    FIELD_SPACING_MM,
    Image,
    Template,
    load_template,
)
from simulations.cohort.trilinear import sample

# Between people: a slow part and a local part (smoothing sigma mm, rms mm per component).
_VARIATION = ((20.0, 2.2), (8.0, 0.7))
_TEXTURE_MM = 1.5
_TEXTURE_BAND_MM = (1.1, 2.4)


@dataclass(frozen=True, eq=False)
class Head:
    """One visit's anatomy, before any scanner.

    Attributes:
        template: what is deformed.
        inverse: ``(3, *FIELD_SHAPE)`` mm: displacement from the head back to the template.
        to_template: ``(4, 4)``: head size and residual pose undone, image mm to field mm.
        texture: fine signal on a 1.5 mm grid around the medial temporal lobes.
        texture_origin_mm: ``(3,)`` position of its first voxel, template mm.
    """

    template: Template
    inverse: Field
    to_template: npt.NDArray[np.float64]
    texture: Image
    texture_origin_mm: npt.NDArray[np.float64]


def build_head(subject: Subject, visit: Visit) -> Head:
    """Deform the template for one visit (about 0.4 s).

    ``T(phi_at^-1(phi_an^-1(x)))``: phi_an is the person, the same at every visit; phi_at is age and
    disease. Both are exponentials of smooth velocities, hence invertible.
    """
    template = load_template()
    person = smooth_noise(subject.rng("anatomy"), _VARIATION, 3)
    change = log_volume_change(subject, visit, template.atlas.names)
    inverse = compose(exponential(-atrophy_velocity(template, change)), exponential(-person))
    texture, origin = _texture(template, subject, visit)
    return Head(template, inverse, _pose(subject, visit), texture, origin)


def render(
    head: Head, affine: npt.NDArray[np.float64], shape: tuple[int, int, int]
) -> tuple[Image, npt.NDArray[np.int16], npt.NDArray[np.bool_]]:
    """Sample a head on a grid.

    Args:
        head: from :func:`build_head`.
        affine: ``(4, 4)`` voxel-to-world matrix, mm.
        shape: voxels per axis.

    Returns:
        Canonical greys float32, region labels int16, and the mask of brain with CSF, each of the
        given shape.
    """
    template = head.template
    voxel_to_field = head.to_template @ affine
    origin, step = np.asarray(FIELD_ORIGIN_MM), FIELD_SPACING_MM
    grid = np.indices(shape, dtype=np.float32).reshape(3, -1)
    matrix = (voxel_to_field[:3, :3] / step).astype(np.float32)
    where = matrix @ grid + ((voxel_to_field[:3, 3] - origin) / step).astype(np.float32)[:, None]
    nearest = np.rint(where).astype(np.int32)
    inside = np.all((nearest >= 0) & (nearest < np.asarray(FIELD_SHAPE)[:, None]), axis=0)
    nearest *= inside
    chosen = np.flatnonzero(inside & template.reach[tuple(nearest)])
    where = where[:, chosen]
    position = where * np.float32(step) + origin.astype(np.float32)[:, None]
    position += sample(head.inverse, where)
    in_image = position - template.origin_mm.astype(np.float32)[:, None]
    values = map_coordinates(template.image, in_image, order=1, mode="constant")
    values += _sample_texture(head, position)
    to_atlas = np.linalg.inv(template.atlas.affine)
    in_atlas = to_atlas[:3, :3].astype(np.float32) @ position + to_atlas[:3, 3:].astype(np.float32)
    image = np.zeros(shape, dtype=np.float32)
    labels = np.zeros(shape, dtype=np.int16)
    brain = np.zeros(shape, dtype=bool)
    brain.flat[chosen] = map_coordinates(template.brain, in_image, order=0, mode="constant") > 0
    labels.flat[chosen] = map_coordinates(template.atlas.labels, in_atlas, order=0, mode="constant")
    image.flat[chosen] = values
    image *= brain
    labels *= brain
    return np.maximum(image, 0), labels, brain


def anatomy_volume(
    subject: Subject, visit: Visit | None = None, grid: ModelGrid | None = None
) -> tuple[Image, npt.NDArray[np.float64], float]:
    """The clean volume of a visit (default: the first) as a perfect reader would see it.

    Returns:
        Canonical greys ``(X, Y, Z)`` float32 on the model grid (default 2 mm), 0 outside the head;
        region volumes ``(R,)`` ml; intracranial volume ml. Volumes are measured on the deformed
        labels, at the spacing of the grid.
    """
    chosen = grid or ModelGrid()
    head = build_head(subject, visit or subject.visits[0])
    image, labels, brain = render(head, chosen.affine, chosen.shape)
    region_ml, icv_ml = measure(head, labels, brain, chosen.spacing_mm**3)
    return image, region_ml, icv_ml


def measure(
    head: Head,
    labels: npt.NDArray[np.int16],
    brain: npt.NDArray[np.bool_],
    voxel_mm3: float,
) -> tuple[npt.NDArray[np.float64], float]:
    """Millilitres per region ``(R,)``, and of everything inside the skull, by counting voxels."""
    count = head.template.atlas.region_count
    regions = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    return regions.astype(np.float64) * voxel_mm3 / 1000.0, float(brain.sum()) * voxel_mm3 / 1000.0


def _pose(subject: Subject, visit: Visit) -> npt.NDArray[np.float64]:
    """Image mm to template mm: undo size and aspect (of the person) and pose (of the visit)."""
    effect = subject.spec.effect
    rng = subject.rng("head")
    size = effect.head_size_sex * (1 if subject.sex == "M" else -1)
    size += rng.normal(0, effect.head_size_sd)
    scale = np.exp(size + rng.normal(0, effect.aspect_sd, 3))
    rng = subject.rng(f"pose-{visit.session}")
    angles = np.deg2rad(rng.normal(0, subject.site.rotation_sd_deg, 3))
    shift = rng.normal(0, subject.site.shift_sd_mm, 3)
    rotation = np.eye(3)
    for axis, angle in enumerate(angles):
        turn = np.eye(3)
        i, j = (axis + 1) % 3, (axis + 2) % 3
        turn[i, i] = turn[j, j] = np.cos(angle)
        turn[i, j], turn[j, i] = -np.sin(angle), np.sin(angle)
        rotation = turn @ rotation
    # About the middle of the head, so that size does not move it.
    centre = np.asarray([0.0, -18.0, 8.0])
    forward = np.eye(4)
    forward[:3, :3] = rotation @ np.diag(scale)
    forward[:3, 3] = centre + shift - forward[:3, :3] @ centre
    return np.linalg.inv(forward).astype(np.float64)


def _texture(
    template: Template, subject: Subject, visit: Visit
) -> tuple[Image, npt.NDArray[np.float64]]:
    """Band-pass noise in the medial temporal lobes that fades with the fine severity."""
    nodes = np.argwhere(template.mtl > 0.02)
    origin = np.asarray(FIELD_ORIGIN_MM)
    low = origin + nodes.min(0) * FIELD_SPACING_MM
    high = origin + nodes.max(0) * FIELD_SPACING_MM
    shape = tuple(int(n) for n in np.ceil((high - low) / _TEXTURE_MM) + 1)
    white = subject.rng("texture").standard_normal(shape, dtype=np.float32)
    narrow, wide = (gaussian_filter(white, s / _TEXTURE_MM) for s in _TEXTURE_BAND_MM)
    band = narrow - wide
    axes = [(low[a] + _TEXTURE_MM * np.arange(shape[a]) - origin[a]) / 3.0 for a in range(3)]
    mask = map_coordinates(template.mtl, np.meshgrid(*axes, indexing="ij"), order=1)
    strength = subject.spec.effect.texture * (1 - 0.85 * float(np.clip(visit.fine, 0, 1)))
    return (strength * mask * band / band.std()).astype(np.float32), low


def _sample_texture(head: Head, position: npt.NDArray[np.float32]) -> Image:
    index = (position - head.texture_origin_mm.astype(np.float32)[:, None]) / np.float32(
        _TEXTURE_MM
    )
    limit = np.asarray(head.texture.shape, dtype=np.float32)[:, None] - 1
    near = np.flatnonzero(np.all((index > 0) & (index < limit), axis=0))
    values = np.zeros(position.shape[1], dtype=np.float32)
    values[near] = map_coordinates(head.texture, index[:, near], order=1)
    return values
