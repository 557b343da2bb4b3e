"""The default atlas: the same bytes everywhere, symmetric, connected, complete, on every grid."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy.sparse.csgraph import connected_components

from shared_model.atlas import cache, seeded
from shared_model.atlas.atlas import Atlas
from shared_model.atlas.region_graph import region_adjacency, shared_faces
from shared_model.atlas.seeded import read_seeds, seeded_atlas
from shared_model.errors import SmrfedError
from shared_model.grid import ModelGrid

# The digest that plans carry. It changes only with seeds.tsv, the rules or the template itself.
DIGEST = "26b69fee4d148cdea860dcbd5d7ebf3807eb02ccfcfdf2fe95805e70593728d7"


@pytest.fixture(scope="module")
def atlas(tmp_path_factory: pytest.TempPathFactory) -> Atlas:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(cache.CACHE_VARIABLE, str(tmp_path_factory.mktemp("cache")))
        seeded_atlas.cache_clear()
        return seeded_atlas()


def tiny(labels: np.ndarray, count: int, spacing: float = 2.0) -> Atlas:
    names = tuple(f"region {i}" for i in range(count))
    homologs = (-1,) * count
    affine = np.diag([spacing, spacing, spacing, 1.0])
    labels = labels.astype(np.int16)
    return Atlas(
        "tiny", labels, affine, names, homologs, region_adjacency(labels, affine, homologs)
    )


def test_digest_is_the_published_one(atlas: Atlas) -> None:
    assert atlas.sha256 == DIGEST


def test_cached_and_built_atlas_are_the_same(
    tmp_path: object, monkeypatch: pytest.MonkeyPatch, atlas: Atlas
) -> None:
    monkeypatch.setenv(cache.CACHE_VARIABLE, str(tmp_path))
    for _ in range(2):
        seeded_atlas.cache_clear()
        assert seeded_atlas().sha256 == atlas.sha256
    (kept,) = cache.cache_dir().glob("atlas-*.npz")
    whole = kept.read_bytes()
    for damage in (whole[:5000], whole[:90_000] + b"\1\1" + whole[90_002:]):
        kept.write_bytes(damage)
        assert cache.load_arrays(kept.name) is None
    seeded_atlas.cache_clear()
    assert seeded_atlas().sha256 == atlas.sha256
    stale = dict(np.load(kept))
    stale["labels"] = stale["labels"][::-1].copy()
    cache.store_arrays(kept.name, stale)
    seeded_atlas.cache_clear()
    assert seeded_atlas().sha256 == atlas.sha256


def test_unwritable_cache_is_no_error(
    tmp_path: object, monkeypatch: pytest.MonkeyPatch, atlas: Atlas
) -> None:
    blocked = cache.Path(str(tmp_path)) / "file"
    blocked.write_text("not a folder")
    monkeypatch.setenv(cache.CACHE_VARIABLE, str(blocked))
    seeded_atlas.cache_clear()
    assert seeded_atlas().sha256 == atlas.sha256


def test_regions_are_56_pairs_and_4_midline(atlas: Atlas) -> None:
    assert atlas.region_count == 116
    pairs = [i for i, homolog in enumerate(atlas.homologs) if homolog >= 0]
    assert len(pairs) == 112
    for i in pairs:
        assert atlas.homologs[atlas.homologs[i]] == i
        side = atlas.names[i].rsplit("_", 1)
        mirror = {"left": "right", "right": "left"}[side[1]]
        assert atlas.names[atlas.homologs[i]] == f"{side[0]}_{mirror}"


def test_left_is_the_mirror_of_right(atlas: Atlas) -> None:
    mirror = np.arange(atlas.region_count + 1)
    for i, homolog in enumerate(atlas.homologs):
        if homolog >= 0:
            mirror[i + 1] = homolog + 1
    assert np.array_equal(mirror[atlas.labels[::-1]], atlas.labels)
    x = atlas.affine[0, 3] + atlas.affine[0, 0] * np.arange(atlas.labels.shape[0])
    left = [i + 1 for i, name in enumerate(atlas.names) if name.endswith("_left")]
    assert not np.isin(atlas.labels[x > 0], left).any()


def test_regions_lie_where_their_seeds_are(atlas: Atlas) -> None:
    seeds = read_seeds()
    for i, name in enumerate(atlas.names):
        if name.endswith("_left"):
            continue
        voxels = np.argwhere(atlas.labels == i + 1)
        assert len(voxels) >= 20, name
        centre = voxels.mean(0) @ atlas.affine[:3, :3].T + atlas.affine[:3, 3]
        own = [s for s in seeds if s.region == name.removesuffix("_right")]
        spheres = np.asarray([s.centre for s in own])
        nearest = np.linalg.norm(spheres - centre, axis=1) / [s.radius_mm for s in own]
        assert nearest.min() < 2, name


def test_every_seed_names_its_source() -> None:
    assert {s.source for s in read_seeds()} == {"Tzourio-Mazoyer 2002", "general anatomy"}
    assert {s.gate for s in read_seeds()} == set(seeded.GATES)


def test_volumes_are_those_of_a_brain(atlas: Atlas) -> None:
    ml = dict(zip(atlas.names, atlas.region_ml(), strict=True))
    # Bounds from the adult literature, wide because MNI152 is larger than most heads.
    for name, low, high in (
        ("hippocampus_left", 2.5, 6),
        ("amygdala_left", 0.8, 2.5),
        ("thalamus_left", 6, 12),
        ("putamen_left", 3, 8),
        ("lateral_ventricle_left", 5, 15),
        ("brainstem", 14, 30),
    ):
        assert low < ml[name] < high, name


def test_graph_is_one_component_with_homologs(atlas: Atlas) -> None:
    adjacency = atlas.adjacency
    assert np.array_equal(adjacency, adjacency.T)
    assert (adjacency >= 0).all()
    assert not np.diagonal(adjacency).any()
    assert connected_components(adjacency > 0, directed=False)[0] == 1
    degree = (adjacency > 0).sum(1)
    assert degree.min() >= 1
    assert 6 < degree.mean() < 12
    assert all(adjacency[i, h] > 0 for i, h in enumerate(atlas.homologs) if h >= 0)
    touching = atlas.names.index("hippocampus_left"), atlas.names.index("amygdala_left")
    assert adjacency[touching] > 0


def test_arrays_are_read_only(atlas: Atlas) -> None:
    with pytest.raises(ValueError, match="read-only"):
        atlas.labels[0, 0, 0] = 1


def test_faces_of_known_boxes() -> None:
    labels = np.zeros((6, 4, 5), dtype=np.int16)
    labels[:2], labels[2:4], labels[5, 0, 0] = 1, 2, 3
    assert shared_faces(labels, 3).tolist() == [[0, 20, 0], [20, 0, 0], [0, 0, 0]]


def test_isolated_and_distant_regions_are_tied_in() -> None:
    labels = np.zeros((40, 6, 6), dtype=np.int16)
    labels[:3], labels[3:6], labels[20:23], labels[23:26], labels[38] = 1, 2, 3, 4, 5
    adjacency = region_adjacency(labels, np.eye(4), (-1,) * 5)
    assert adjacency[0, 1] == pytest.approx(np.log1p(36), abs=1e-4)
    assert adjacency[2, 3] > 0
    assert (adjacency[4] > 0).sum() == 3
    assert connected_components(adjacency > 0)[0] == 1
    two = region_adjacency(np.where(labels == 5, 0, labels), np.eye(4), (-1,) * 4)
    assert connected_components(two > 0)[0] == 1
    assert two[1, 2] > 0


@pytest.mark.parametrize("spacing", [1.0, 2.0, 3.0, 4.0])
def test_resampled_keeps_every_region(atlas: Atlas, spacing: float) -> None:
    grid = ModelGrid(spacing_mm=spacing)
    there = atlas.resampled(grid)
    assert there.labels.shape == grid.shape
    assert np.array_equal(there.affine, grid.affine)
    assert there.region_ml().sum() == pytest.approx(atlas.region_ml().sum(), rel=0.02)
    assert np.array_equal(there.adjacency, atlas.adjacency)
    if spacing == 2.0:
        assert there.sha256 == atlas.sha256


def test_vanishing_region_is_named() -> None:
    labels = np.zeros((100, 100, 60), dtype=np.int16)
    labels[:50], labels[50:] = 1, 2
    labels[3, 3, 3] = 3
    with pytest.raises(SmrfedError, match="region 2") as caught:
        tiny(labels, 3, spacing=1.0).resampled(ModelGrid(spacing_mm=4.0))
    assert caught.value.code == "SMR-E622"


def test_digest_sees_every_part_but_the_name(atlas: Atlas) -> None:
    assert dataclasses.replace(atlas, name="other").sha256 == atlas.sha256
    labels = atlas.labels.copy()
    labels[tuple(np.argwhere(labels > 0)[0])] = 0
    adjacency = atlas.adjacency.copy()
    adjacency[0, 1] = adjacency[1, 0] = adjacency[0, 1] + 1
    changed = [
        dataclasses.replace(atlas, labels=labels),
        dataclasses.replace(atlas, adjacency=adjacency),
        dataclasses.replace(atlas, affine=atlas.affine + np.diag([1e-3, 0, 0, 0])),
        dataclasses.replace(atlas, names=(*atlas.names[:-1], "renamed")),
        dataclasses.replace(atlas, homologs=(-1,) * 116),
    ]
    digests = {atlas.sha256, *(other.sha256 for other in changed)}
    assert len(digests) == 6


def test_another_atlas_is_refused(atlas: Atlas) -> None:
    atlas.require(None)
    atlas.require(atlas.sha256)
    with pytest.raises(SmrfedError) as caught:
        atlas.require("0" * 64)
    assert caught.value.code == "SMR-E621"


@pytest.mark.parametrize(
    "broken",
    [
        {"names": ("a", "a")},
        {"homologs": (1,)},
        {"homologs": (1, 2)},
        {"labels": np.zeros((2, 2), np.int16)},
        {"labels": np.full((2, 2, 2), 3, np.int16)},
        {"labels": np.zeros((2, 2, 2), np.int32)},
        {"adjacency": np.float32([[0, 1], [2, 0]])},
        {"adjacency": np.float32([[0, -1], [-1, 0]])},
        {"adjacency": np.float32([[1, 1], [1, 0]])},
        {"adjacency": np.float32([[0, np.nan], [np.nan, 0]])},
        {"adjacency": np.zeros((3, 3), np.float32)},
    ],
)
def test_contradicting_parts_are_refused(broken: dict[str, object]) -> None:
    labels = np.zeros((4, 4, 4), dtype=np.int16)
    labels[:2], labels[2:] = 1, 2
    with pytest.raises(SmrfedError) as caught:
        dataclasses.replace(tiny(labels, 2), **broken)
    assert caught.value.code == "SMR-E620"
