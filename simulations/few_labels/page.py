"""The figures of docs/few_labels.md, written from their records."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from shared_model.atlas.cache import write_atomically
from simulations.few_labels.cross_disease import CrossDisease
from simulations.few_labels.label_curve import LabelCurve
from simulations.few_labels.measures import Estimate


def renew(page: Path, name: str, text: str) -> None:
    """Replace what stands between ``<!-- NAME -->`` and ``<!-- end NAME -->``.

    A page without the two marks, or that is not there, is left alone.
    """
    begin, end = f"<!-- {name} -->\n", f"<!-- end {name} -->"
    if not page.exists():
        return
    before, found, rest = page.read_text(encoding="utf-8").partition(begin)
    _, ended, after = rest.partition(end)
    if found and ended:
        write_atomically(page, (before + begin + text.strip() + "\n" + end + after).encode())


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def verdict(gain: Estimate, subject: str, other: str) -> str:
    """One sentence that says no more than the interval."""
    if gain.low > 0:
        said = f"{subject} is better than {other}"
    elif gain.high < 0:
        said = f"{subject} is worse than {other}"
    else:
        said = f"{subject} is not shown to differ from {other}"
    return f"{said}: {gain.value:+.3f} ({gain.low:+.3f} to {gain.high:+.3f})."


def cross_disease_text(result: CrossDisease) -> str:
    """The matrix, the transfer, and what follows."""
    tests = list(dict.fromkeys(cell.test for cell in result.cells))
    cells = {(cell.train, cell.test): cell for cell in result.cells}
    matrix = table(
        ["trained on", *(f"people of {name}" for name in tests)],
        [
            [f"{source} ({result.trained_on[source]})"]
            + [str(cells[source, name].auc) for name in tests]
            for source in tests
        ]
        + [["true volumes, trained at home", *(str(result.volumes[name]) for name in tests)]],
    )
    transfer = table(
        ["PD labels", "taken over from", "own start", "all but the head", "difference"],
        [
            [str(r.labels), r.source, str(r.own), str(r.taken_over), str(r.difference)]
            for r in result.transfer
        ],
    )
    few = [row for row in result.transfer if row.labels == min(r.labels for r in result.transfer)]
    said = " ".join(
        verdict(row.difference, f"Beginning from {row.source}", "beginning from the seed")
        for row in few
    )
    return f"{matrix}\n\n{transfer}\n\nWith {few[0].labels} labels: {said}"


_TITLES = {
    "scratch": "training from scratch",
    "public": "public encoder",
    "masked": "public encoder, masked-token start",
    "pseudo": "public encoder, pseudo-labels",
    "volumes": "true region volumes",
}


def label_curve_text(result: LabelCurve) -> str:
    """Arms by share of labels, differences, and who wins at the smallest share."""
    shares = list(dict.fromkeys(point.share for point in result.points))
    found = {(point.arm, point.share): point for point in result.points}
    arms = list(dict.fromkeys(point.arm for point in result.points))
    heads = ["arm", *(f"{share:.0%} ({found[arms[0], share].labels})" for share in shares)]
    curves = table(
        heads,
        [
            [_TITLES[arm], *(str(found[arm, share].balanced_accuracy) for share in shares)]
            for arm in arms
        ],
    )
    gains = {(d.arm, d.reference, d.share): d.difference for d in result.differences}
    pairs = list(dict.fromkeys((d.arm, d.reference) for d in result.differences))
    differences = table(
        ["difference", *heads[1:]],
        [
            [f"{_TITLES[a]} - {_TITLES[b]}", *(str(gains[a, b, share]) for share in shares)]
            for a, b in pairs
        ],
    )
    least = min(shares)
    said = "\n".join(
        "- " + verdict(gains[a, b, least], f"The {_TITLES[a]}", f"the {_TITLES[b]}")
        for a, b in pairs
    )
    pseudo = "; ".join(
        f"{float(share):.0%}: {count:.1f} patients, {result.pseudo_precision[share]:.0%} right"
        for share, count in result.pseudo_labelled.items()
    )
    return (
        f"{curves}\n\n{differences}\n\nAt {least:.0%} of the labels:\n\n{said}\n\n"
        f"Pseudo-labelled at a confidence of {result.confidence}: {pseudo}."
    )
