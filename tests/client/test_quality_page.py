"""The quality page: whole, self-contained, without names or paths, fit for two hundred scans."""

from __future__ import annotations

import hashlib
import re
import stat
import struct
import zlib
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from quality_heads import GRID, SHA, flat_head, good_measures, template

from client.quality.catalogue import CATALOGUE
from client.quality.limits import Bounds, QualityLimits
from client.quality.mosaic import mosaic, scan_mosaic
from client.quality.outliers import judge_site
from client.quality.overrides import Overrides
from client.quality.page import page_html, write_page
from client.quality.png import encode_png
from client.quality.sections import shown_text
from client.quality.site_page import PageExclusion, PageScan, SitePage
from client.quality.strips import Dot, strip

_VOID = {"meta", "input", "img", "br", "circle", "line", "rect"}


def decode(png: bytes) -> tuple[np.ndarray, list[tuple[int, int, int]]]:
    """An independent reader of what the writer may write."""
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    at, chunks = 8, {}
    while at < len(png):
        size, kind = struct.unpack(">I4s", png[at : at + 8])
        body = png[at + 8 : at + 8 + size]
        (checksum,) = struct.unpack(">I", png[at + 8 + size : at + 12 + size])
        assert checksum == zlib.crc32(kind + body)
        chunks[kind] = body
        at += 12 + size
    columns, rows, depth, colours = struct.unpack(">IIBB", chunks[b"IHDR"][:10])
    assert (depth, colours) == (8, 3)
    lines = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8).reshape(rows, columns + 1)
    assert not lines[:, 0].any()
    palette = chunks[b"PLTE"]
    return lines[:, 1:], [tuple(palette[i : i + 3]) for i in range(0, len(palette), 3)]  # type: ignore[misc]


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 256), st.integers(0, 99))
@settings(deadline=None, max_examples=30)
def test_a_png_holds_its_pixels(rows: int, columns: int, colours: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, colours, (rows, columns)).astype(np.uint8)
    palette = [tuple(int(x) for x in rng.integers(0, 256, 3)) for _ in range(colours)]
    found, known = decode(encode_png(pixels, palette))  # type: ignore[arg-type]
    np.testing.assert_array_equal(found, pixels)
    assert known == palette


def test_a_pixel_without_a_colour_is_refused() -> None:
    with pytest.raises(ValueError, match="palette"):
        encode_png(np.full((2, 2), 3, np.uint8), [(0, 0, 0)])


def test_the_mosaic_shows_both_outlines_the_right_way_round() -> None:
    volume, brain = template()
    left = volume.copy()
    # The patient's left half is dark.
    left[: GRID.shape[0] // 2] *= 0.3
    pixels, palette = decode(mosaic(left, brain))
    assert pixels.shape == (104 + 88 + 88, 7 * 104)
    assert {len(palette) - 1, len(palette) - 2} & set(np.unique(pixels))
    grey = np.where(pixels < len(palette) - 2, pixels, 0).astype(float)
    tile = grey[:104, 3 * 88 : 4 * 88]
    assert tile[:, :44].sum() < 0.6 * tile[:, 44:].sum()
    # Anterior is up: the cerebellum's slice in the sagittal row is at the lower left.
    sagittal = grey[104 + 88 :, 3 * 104 : 4 * 104]
    assert sagittal[66:, :52].sum() > sagittal[66:, 52:].sum()
    with pytest.raises(ValueError, match="voxels"):
        mosaic(volume[1:], brain[1:])


def test_the_mosaic_of_a_scan_has_its_skull() -> None:
    work = flat_head(0.02)
    assert work.brain is not None
    with_skull, _ = decode(scan_mosaic(work))
    stripped, _ = decode(scan_mosaic(flat_head(0.02, skull=False)))
    assert (with_skull > 5).sum() > 1.1 * (stripped > 5).sum()


def page(count: int, tmp_path: Path, picture: bytes) -> SitePage:
    rng = np.random.default_rng(0)
    limits = QualityLimits()
    scans = {
        hashlib.sha256(bytes([i])).hexdigest(): good_measures(
            snr_white=float(14 + rng.normal()),
            dice=0.5 if i == 3 else 0.955,
            cnr=0.9 if i in (4, 5) else 2.1,
        )
        for i in range(count)
    }
    verdicts = judge_site(scans, limits)
    keys = list(scans)
    overrides = Overrides(tmp_path)
    overrides.record(
        keys[4], "accept", verdicts[keys[4]],
        who="Dr. Planted Name", why="coil <b>known</b>, see /srv/pacs/DOE^JANE/1.dcm",
    )  # fmt: skip
    decided = overrides.latest()
    return SitePage(
        site="Site <A>",
        scans=tuple(
            PageScan(k, f"sub-{i:03d}", "ses-1", scans[k], verdicts[k], picture, decided.get(k))
            for i, k in enumerate(keys)
        ),
        excluded=(
            PageExclusion(
                "SMR-E213", "not 3-D: /data/archive/DOE/x_T1w.nii.gz: 4 x 4", "export it", "sub-9"
            ),
        ),
        use="approved",
        limits=limits,
        provenance={"plan": "ab12", "steps": "reorient 1"},
    )  # fmt: skip


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.sources: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.sources += [v or "" for k, v in attrs if k in ("src", "href", "srcset", "data")]
        if tag not in _VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in _VOID:
            assert self.open.pop() == tag


def test_the_page_is_whole_and_loads_nothing(tmp_path: Path) -> None:
    text = page_html(page(10, tmp_path, mosaic(*template())))
    tags = Tags()
    tags.feed(text)
    assert tags.open == []
    assert all(source.startswith(("data:image/png;base64,", "#")) for source in tags.sources)
    assert "http" not in re.sub(r"http-equiv", "", text)
    assert "default-src 'none'" in text
    assert "@import" not in text
    assert not re.search(r"\$[a-z{]", text.replace("${value.dataset.m}", ""))


def test_the_page_says_what_a_person_needs(tmp_path: Path) -> None:
    text = page_html(page(10, tmp_path, mosaic(*template())))
    assert text.count("<article") == 10
    # Fail first, then review.
    assert re.findall(r'<article [^>]*data-r="(\w+)"', text)[:4] == [
        "fail",
        "review",
        "review",
        "pass",
    ]
    assert "<b>8</b> of 10 prepared scans" in text
    assert "cannot be accepted" in text
    assert "not used: SMR-E275" in text
    assert "a person decided: <b>accept</b>" in text
    assert "SMR-E213" in text
    assert "docs/errors/SMR-E213.md" in text
    assert "reorient 1" in text
    for measured in CATALOGUE:
        assert f"data-m='{measured.name}'" in text
    for name in QualityLimits.model_fields:
        assert f"<th>{name}</th>" in text
    assert text.count('data-s="0"') >= 12


def test_the_page_names_nobody_and_no_path(tmp_path: Path) -> None:
    text = page_html(page(10, tmp_path, mosaic(*template())))
    for planted in ("Planted", "/srv", "DOE^JANE/", "/data/", "archive/DOE", str(tmp_path)):
        assert planted not in text
    assert "<b>known</b>" not in text
    assert "Site <A>" not in text
    assert not re.search(r"20\d\d-\d\d-\d\d", text)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("/a/b/c.nii.gz: 4-D", "c.nii.gz: 4-D"),
        (r"C:\pacs\DOE\1.dcm broken", "1.dcm broken"),
        ("DOE_JANE/series/1.dcm", "1.dcm"),
        ("DOE/1.dcm", "1.dcm"),
        ("10 mm/s and T1w/T2w, 3 / 4", "10 mm/s and T1w/T2w, 3 / 4"),
    ],
)
def test_paths_are_cut_to_their_last_part(text: str, shown: str) -> None:
    assert shown_text(text) == shown


def test_two_hundred_scans_stay_below_forty_megabytes(tmp_path: Path) -> None:
    # Noise compresses worst: a real head's mosaic has 50 to 100 kB.
    volume, brain = template()
    noisy = volume + np.random.default_rng(0).normal(0, 0.03, volume.shape).astype(np.float32)
    picture = mosaic(np.maximum(noisy, 0), brain)
    target = tmp_path / "page.html"
    built = page(200, tmp_path, picture)
    write_page(target, built)
    assert 1e6 < target.stat().st_size < 40e6
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    first = target.read_bytes()
    write_page(target, built)
    assert target.read_bytes() == first


def test_an_empty_site_has_a_page_too() -> None:
    text = page_html(SitePage("A", ()))
    assert "nothing was excluded" in text
    assert "every scan passes" in text


def test_a_strip_keeps_a_far_scan_at_its_edge() -> None:
    measured = CATALOGUE[0]
    dots = [Dot(i, 1400.0 + i, "pass") for i in range(9)] + [Dot(9, 9000.0, "fail")]
    drawn = strip(measured, dots, Bounds(review_below=1402, fail_above=20000))
    assert drawn.count("<circle") == 10
    assert 'class="fail out" data-s="9"' in drawn
    assert drawn.count("<line") == 1
    xs = [float(x) for x in re.findall(r'cx="([\d.]+)"', drawn)]
    assert all(0 <= x <= 320 for x in xs)
    assert strip(measured, [], None) == ""
    assert "<svg" in strip(measured, [Dot(0, 0.0, "pass")], None)


def test_a_scan_without_a_picture_says_so() -> None:
    scans = judge_site({SHA: good_measures(dice=None, correlation=None)}, QualityLimits())
    shown = PageScan(SHA, "sub-1", "", good_measures(dice=None), scans[SHA])
    text = page_html(SitePage("A", (shown,)))
    assert "no picture" in text
    assert SHA[:12] in text
    assert SHA not in text
