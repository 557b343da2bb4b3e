"""The study's figures as ``docs/explanations.md``."""

from __future__ import annotations

from collections.abc import Sequence

from shared_model.explanation.figures import (
    ALIKE,
    Interval,
    LocalisationFigures,
    Sameness,
    StudyFigures,
)
from shared_model.explanation.methods import METHODS
from simulations.explanation_study.trained import OTHER_ARCHITECTURE

_BASELINES = {
    "edge_detector": "edges of the scan (Sobel)",
    "mean_brain": "mean brain",
    "regions_alike": "every region alike",
}


def study_page(figures: StudyFigures) -> str:
    """The whole page; every figure is in the JSON file beside it."""
    parts = (
        _intro(figures),
        _verdict(figures),
        _localisation(figures),
        _sanity(figures),
        _same(figures),
        _faithful(figures),
        _shortcuts(figures),
        _failures(figures),
        _READING,
    )
    return "\n\n".join(part for part in parts if part).rstrip() + "\n"


def _intro(figures: StudyFigures) -> str:
    default = METHODS[figures.shipped]
    chosen = figures.method(figures.shipped)
    patients = chosen.localisation.patients if chosen else 0
    return f"""# Explanations: what they are, and how far they can be trusted

`smrfed-site explain SCAN --model MODEL` shows, for one scan, which regions drove a model's output:
a page, the same in brief as a PDF for the patient's file, PNG pictures over the scan in three
planes, NIfTI overlays in MNI152 space for any viewer, the atlas region table (V_r and P_r as AXIAL
reports them), slice attention with its top slices, the region graph's strongest edges, region
volumes with z-scores for age and sex, and the prediction with its uncertainty. It says "regions
that drove this model's output", never "pathology found". All of it lies below
`state_dir/explanations`, for its owner only, and must not leave the hospital.

The default map is **{default.title.lower()}**: {_lower(default.about)}

Everything below comes from one command, and no sentence here was written without its figure:

```
{figures.command}
```

{figures.made}; {figures.machine}. Synthetic cohorts of {_list(figures.seeds)} (the method, and how
many scans meet shuffled weights, were chosen on seed 3), SMR-Net with the packaged public encoder,
trained pooled: balanced accuracy {figures.balanced_accuracy:.2f}; federated with patient-level
privacy at epsilon {figures.epsilon:g}: {figures.balanced_accuracy_private:.2f}. The truth are the
{len(figures.truth)} regions whose volume the disease changes by a third or more
({_regions(figures.truth)}): {figures.chance:.1%} of the brain, which is chance. Figures are means
over the {patients} test patients with AD, the hospital left out among them, with 95 % intervals
over patients; the slow methods were measured on fewer, as the table says."""


def _verdict(figures: StudyFigures) -> str:
    rows = [
        (
            METHODS[found.method].title + (" (default)" if found.method == figures.shipped else ""),
            *("yes" if met else "**no**" for met in figures.bars(found.method).values()),
        )
        for found in figures.methods
    ]
    return "## Which method meets the bars\n\n" + _table(
        (
            "method",
            "mass at least 3 times chance",
            "above every baseline",
            "unlike itself with shuffled weights",
        ),
        rows,
    )


def _localisation(figures: StudyFigures) -> str:
    rows = []
    for found in (*figures.methods, *figures.baselines):
        title = METHODS[found.method].title if found.method in METHODS else _BASELINES[found.method]
        rows.append((title, *_local(found.localisation)))
        for name, part in (
            ("all patients", found.everybody),
            (f"trained with epsilon {figures.epsilon:g}", found.private),
            ("trained on random labels", found.random_labels),
        ):
            if part is not None:
                rows.append((f"- {title}, {name}", *_local(part)))
    return (
        "## Does the map lie on what is truly atrophied?\n\n"
        + _table(
            ("map", "patients", "mass over chance", "worst", "rank", "pointing", "AUPRC", "IoU"),
            rows,
        )
        + _by_model(figures)
    )


def _by_model(figures: StudyFigures) -> str:
    """What another training may bring, which intervals over patients do not hold."""
    chosen = figures.method(figures.shipped)
    if chosen is None or len(figures.seeds) < 2 or not chosen.localisation.by_model:
        return ""
    lines = [
        f"{name} {', '.join(f'{value:.1f}' for value in found.by_model)}"
        for name, found in (
            ("without privacy", chosen.localisation),
            (f"with epsilon {figures.epsilon:g}", chosen.private),
            ("with random labels", chosen.random_labels),
        )
        if found is not None and found.by_model
    ]
    text = (
        "\n\nIntervals are over patients, who share the luck of their models. The default's mass "
        f"over chance model by model, cohort by cohort ({_list(figures.seeds)}): "
        f"{'; '.join(lines)}. With privacy every training draws its own noise, whatever the seed; "
        "the table has each patient's mean over the models."
    )
    private = figures.with_privacy(figures.shipped)
    if private is None or private[0]:
        return text
    return (
        f"{text}\n\n**The map of a private model can miss:** not {private[1]}. The map shows what "
        "the score hangs on; it is the model that leans on other regions there. The page of a scan "
        "says so as well, because nothing in a map tells."
    )


def _local(found: LocalisationFigures) -> tuple[str, ...]:
    return (
        str(found.patients),
        f"{found.mass_over_chance.value:.1f} ({found.mass_over_chance.low:.1f} to "
        f"{found.mass_over_chance.high:.1f})",
        f"{found.worst:.1f}",
        _number(found.rank),
        _number(found.pointing),
        _number(found.auprc),
        _number(found.iou),
    )


def _sanity(figures: StudyFigures) -> str:
    stepwise = [found for found in figures.methods if len(found.cascade) > 1]
    whole = _table(
        ("method", "scans", "Spearman", "SSIM", "SSIM elsewhere"),
        [
            (
                METHODS[found.method].title,
                str(found.cascade[-1].scans),
                _interval(found.cascade[-1].spearman),
                _interval(found.cascade[-1].ssim),
                "" if (chance := found.cascade[-1].elsewhere) is None else f"{chance:.2f}",
            )
            for found in figures.methods
            if found.cascade
        ],
    )
    text = (
        "## Does the map depend on what was learnt?\n\n"
        "Likeness of a scan's map to that of the same model after all of its weights, those of the "
        "frozen public encoder among them, were shuffled within each tensor (Adebayo et al. 2018; "
        "shuffled, so that parts that start at zero do not pass for nothing); every scan has a "
        f"shuffle of its own. Both must fall below {ALIKE}, upper ends of the intervals included. "
        "SSIM is the mean over the brain's voxels of maps scaled to a maximum of 1. Elsewhere: "
        "SSIM once the shuffled model's values were dealt out to the regions at random, which is "
        "what this measure gives two maps that share nothing but how their values are "
        f"spread.\n\n{whole}{_alike(figures)}"
    )
    if not stepwise:
        return text
    header = ("last part shuffled", *(METHODS[found.method].title for found in stepwise))
    return (
        f"{text}\n\nFrom the top, one more part at a time (Spearman / SSIM):\n\n"
        + _table(header, _steps([found.cascade for found in stepwise]))
        + "\n\nEach part alone; a part that a map does not read cannot change it:\n\n"
        + _table(header, _steps([found.independent for found in stepwise]))
    )


def _alike(figures: StudyFigures) -> str:
    """Which maps stay alike, and whether by their places or by their values alone."""
    lines = []
    for found in figures.methods:
        if not found.cascade or found.cascade[-1].unlike:
            continue
        last = found.cascade[-1]
        high = [
            name
            for name, value in (("rank correlation", last.spearman), ("SSIM", last.ssim))
            if value.high >= ALIKE
        ]
        lines.append(f"{METHODS[found.method].title} ({', '.join(high)})")
    if not lines:
        return ""
    return (
        "\n\n**Not shown to fall below it:** "
        + "; ".join(lines)
        + ". SSIM is high for any two maps that are even, or empty, over most of the brain: where "
        "it is no higher than elsewhere, the places have nothing in common."
    )


def _steps(columns: Sequence[Sequence[Sameness]]) -> list[tuple[str, ...]]:
    return [(row[0].what, *(one.brief for one in row)) for row in zip(*columns, strict=True)]


def _same(figures: StudyFigures) -> str:
    rows = []
    for found in figures.methods:
        if found.repeated is None:
            continue
        rows.append(
            (
                METHODS[found.method].title,
                *(
                    "" if one is None else one.brief
                    for one in (
                        found.repeated,
                        found.reproduced,
                        found.against_private,
                        found.against_random_labels,
                    )
                ),
            )
        )
    other = ", ".join(f"{key} = {value}" for key, value in OTHER_ARCHITECTURE.items())
    return (
        "## Is it the same again?\n\nLikeness of the maps of the same scans (Spearman / SSIM): two "
        f"initial weights; another architecture ({other}); federated with privacy; and, where it "
        "should be low, trained on random labels.\n\n"
        + _table(("method", "two seeds", "two architectures", "private", "random labels"), rows)
    )


def _faithful(figures: StudyFigures) -> str:
    rows = [
        (METHODS[found.method].title, _number(found.deletion), _number(found.insertion))
        for found in figures.methods
        if found.deletion is not None and found.insertion is not None
    ]
    if figures.random_deletion and figures.random_insertion:
        rows.append(
            (
                "random order of voxels",
                _number(figures.random_deletion),
                _number(figures.random_insertion),
            )
        )
    return (
        "## Does the output follow the map?\n\nArea under the probability of the predicted class "
        "while the most relevant voxels turn into those of the public MNI152 brain (deletion: low "
        "is good), and while they are put into it (insertion: high is good).\n\n"
        + _table(("map", "deletion", "insertion"), rows)
        + _unfaithful(figures)
    )


def _unfaithful(figures: StudyFigures) -> str:
    """Methods whose order of voxels is worth no more than a random one."""
    by_chance = figures.random_deletion, figures.random_insertion
    found = []
    for one in figures.methods:
        for name, own, chance, sign in (
            ("deletion", one.deletion, by_chance[0], 1),
            ("insertion", one.insertion, by_chance[1], -1),
        ):
            if own and chance and sign * (own.value - chance.value) >= 0:
                found.append(f"{METHODS[one.method].title} ({name})")
    if not found:
        return ""
    return (
        "\n\n**No better than voxels in random order:** "
        + ", ".join(found)
        + ". A map can lie on the right regions and still miss much of what the output hangs on: "
        "SMR-Net's slices say something as well, and region evidence does not show it."
    )


def _shortcuts(figures: StudyFigures) -> str:
    rows = [
        (
            METHODS[found.method].title,
            f"{found.outside:.1%}",
            f"{found.edge:.1%}",
            f"{found.edge_chance:.1%}",
        )
        for found in figures.methods
        if found.outside is not None and found.edge is not None and found.edge_chance is not None
    ]
    text = (
        "## Shortcuts\n\nShares of the map outside the scan's own brain, and inside it within "
        "three voxels of its edge; the last column is what a constant map has there.\n\n"
        + _table(("map", "outside", "near the edge", "brain near the edge"), rows)
    )
    if not figures.controls:
        return text
    controls = [
        (one.what, str(one.patients), _interval(one.balanced_accuracy)) for one in figures.controls
    ]
    return (
        f"{text}\n\nHow well a linear read-out of the frozen encoder's region tokens tells CN, MCI "
        "and AD (chance 0.33), trained and tested on one kind of image:\n\n"
        + _table(("image", "test patients", "balanced accuracy"), controls)
        + _shortcut(figures)
    )


def _shortcut(figures: StudyFigures) -> str:
    whole, *simpler = figures.controls
    close = [
        one.what for one in simpler if one.balanced_accuracy.value >= whole.balanced_accuracy.low
    ]
    if not close:
        return ""
    return (
        f"\n\n**A shortcut is open:** {' and '.join(close)} cannot be told from the whole scan by "
        "this read-out: on these patients atrophy moves the border of the brain as well, and a "
        "model could live on that. The shares near the edge above say how much of a map lies there."
    )


def _failures(figures: StudyFigures) -> str:
    if not figures.failures:
        return ""
    lines = [
        f"- {one.patient}, predicted {one.predicted}: {one.mass_over_chance:.1f} times chance; "
        f"first regions: {_regions(one.top_regions)}."
        for one in figures.failures
    ]
    return "## Failures\n\nPatients with AD on whom the default pointed elsewhere most:\n\n" + (
        "\n".join(lines)
    )


_READING = """## How to read this

- **Synthetic patients.** Only there is the truth known. On real patients the maps can be worse, and
  nobody can tell by looking at them.
- **Every region alike** is what a map over regions has that knows nothing. Regions keep their size
  in the map: dividing by it would put more on small regions, and the hippocampus is a small one,
  so that even equal values seemed to find it (3.5 times chance on this atlas).
- **Random labels.** A map of a model that learnt nothing can still lie on the medial temporal lobe
  where the public encoder and its normative read-out react to what varies between people.
- Maps of other models have no region evidence; their default is occlusion of regions, which was
  measured here on SMR-Net alone.
- `smrfed-sim volume-norms` makes the volume norms; their people are synthetic too."""


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(header) + " |", "|" + " --- |" * len(header)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def _number(value: Interval | None) -> str:
    return "" if value is None else f"{value.value:.2f}"


def _interval(value: Interval) -> str:
    return f"{value.value:.2f} ({value.low:.2f} to {value.high:.2f})"


def _regions(names: Sequence[str]) -> str:
    both = [
        name.removesuffix("_left") + "_both_sides"
        if name.endswith("_left") and name.removesuffix("_left") + "_right" in names
        else name
        for name in names
        if not (name.endswith("_right") and name.removesuffix("_right") + "_left" in names)
    ]
    return ", ".join(name.replace("_", " ") for name in both)


def _list(values: Sequence[int]) -> str:
    *before, last = map(str, values)
    return f"seeds {', '.join(before)} and {last}" if before else f"seed {last}"


def _lower(text: str) -> str:
    return text[0].lower() + text[1:]
