"""What the names of MR sequences say about an image's contrast, for every vendor's habits."""

from __future__ import annotations

import re

# Names are glued in every way: "AXT2FLAIR", "t1_mprage_sag", "sT1W_3D_TFE", "eT2W". A word starts
# at the beginning, after anything but a letter or digit, or after one of these.
_START = r"(?:(?<![a-z0-9])|(?<=ax)|(?<=axi)|(?<=axial)|(?<=sag)|(?<=cor)|(?<=tra)|(?<=3d)|(?<=2d)|"
_START += r"(?<=wip)|(?<=t2)|(?<=(?<![a-z])[a-z]))"
_END = r"(?![a-z0-9])"


def _words(*patterns: str) -> re.Pattern[str]:
    return re.compile(_START + "(?:" + "|".join(patterns) + ")")


#: A T1-weighted sequence: T1 itself, and the names of the volumetric gradient echoes.
_T1 = _words(
    rf"t1(?![0-9])(?![-_ ]?(?:map|rho|mapping){_END})",
    r"mp2?[-_ ]?rage",
    r"memp?rage",
    rf"mpr{_END}",
    r"tfl3d",
    r"i?r?[-_ ]?f?spgr",
    r"bravo",
    rf"3d[-_ ]?tfe{_END}",
    rf"tfe{_END}",
    r"tfe3d",
    r"gre[-_ ]?fsp",
    r"quick3d",
)
#: The volumetric ones among them.
_VOLUMETRIC = _words(
    r"mp2?[-_ ]?rage", r"memp?rage", rf"mpr{_END}", r"tfl3d", r"i?r?[-_ ]?f?spgr", r"bravo",
    r"(?:3d[-_ ]?)?t1[w]?[-_ ]?(?:3d[-_ ]?)?tfe", rf"3d[-_ ]?tfe{_END}", r"gre[-_ ]?fsp[-_ ]?3d",
    r"t1w?[-_ ]?3d", r"3d[-_ ]?t1", r"(?:ir[-_ ]?)?fspgr",
)  # fmt: skip

#: Never a T1w image of the head, whatever else the name says.
_ALWAYS = {
    "a localizer": _words(
        r"locali[sz]er", rf"loc{_END}", r"scout", r"survey", r"surview", r"aahead", r"aascout",
        r"smartbrain", r"3[-_ ]?(?:plane|pl|axis)(?:[-_ ]?loc)?", r"topogram",
    ),
    "a calibration or field map": _words(
        r"calib", r"asset[-_ ]?cal", r"ref[-_ ]?scan", r"refscan", r"sense[-_ ]?ref",
        r"coil[-_ ]?survey", r"b[01][-_ ]?map", r"field[-_ ]?map", r"gre[-_ ]?field", r"shim",
    ),
    "diffusion": _words(
        r"dwi", r"dti", r"diff(?!ic|er)", rf"e?adc{_END}", r"tracew?", r"tensor", r"colfa",
        r"hardi", r"noddi", r"ep2d[-_ ]?diff", rf"dki{_END}",
    ),
    "susceptibility-weighted": _words(
        r"swi(?!ss)", r"swan", r"swp", r"qsm", r"ven[-_ ]?bold", r"suscept", r"t2[-_ ]?(?:\*|star)",
        r"min[-_ ]?ip", r"hemo(?!glob)",
    ),
    "perfusion": _words(
        r"perf(?!orm|ect)", rf"p?c?asl{_END}", rf"fair{_END}", r"asl[-_ ]?", rf"dsc{_END}",
        rf"dce{_END}", r"r?cb[fv]", rf"mtt{_END}", rf"ttp{_END}", r"tmax",
    ),
    "functional": _words(
        r"bold", r"fmri", r"rs[-_ ]?fmri", rf"rest(?:ing)?{_END}", rf"task{_END}", r"task[-_]",
        rf"epi{_END}", r"ep2d", r"epfid",
    ),
    "angiography or a projection": _words(
        rf"tof{_END}", r"tof[-_ ]?(?:2d|3d|fl)", rf"c?e?mr[av]{_END}", r"angio", r"venogra",
        r"carotid", r"phase[-_ ]?contrast", r"willis", rf"mip{_END}", r"inhance",
    ),
    "spectroscopy": _words(rf"svs{_END}", r"svs[-_ ]", rf"press{_END}", rf"csi{_END}", r"spectro"),
    "a balanced or steady-state sequence": _words(r"ciss", r"fiesta", r"true?fi", r"b[-_ ]?ssfp"),
    "a quantitative map": _words(
        r"t1[-_ ]?map", r"t2[-_ ]?map", r"r[12]s?[-_ ]?map", r"t1[-_ ]?rho", r"t1[-_ ]?images",
        r"mt(?:r|sat)", r"synth?e?t?i?c?[-_ ]?maps?",
    ),
    "one inversion of MP2RAGE": _words(rf"inv[-_ ]?[12]{_END}"),
    "another body part": _words(
        r"spine", r"spinal", rf"[clt][-_ ]?sp(?:ine)?{_END}", r"cervical", r"lumbar", r"thorac",
        r"knee", r"should", rf"hip{_END}", r"pelvi", r"abdom", r"liver", r"prostat", r"breast",
        r"cardiac", r"heart", r"ankle", r"wrist",
    ),
    "a screen shot or report": _words(
        r"screen", r"phoenix", r"report", r"dose[-_ ]", r"key[-_ ]?image",
        r"presentation[-_ ]?state",
    ),
}  # fmt: skip

#: Not T1-weighted, unless the name says T1 too ("T1 FLAIR", "T1 SPACE").
_UNLESS_T1 = {
    "a localizer": _words(r"pilot"),
    "functional": _words(r"mo[-_ ]?co"),
    "FLAIR": _words(r"flair", r"dark[-_ ]?fluid", r"tirm", r"vista[-_ ]?flair"),
    "T2-weighted": _words(r"t2(?![0-9])", r"haste", r"ss[-_ ]?fse", r"stir", rf"spair{_END}"),
    "proton-density-weighted": _words(rf"pd{_END}", r"pdw", r"proton"),
    "a turbo spin echo": _words(
        rf"tse{_END}", rf"fse{_END}", r"frfse", r"propeller", r"blade", rf"cube{_END}",
        rf"space{_END}", r"vista",
    ),
}  # fmt: skip

_CONTRAST_AGENT = re.compile(
    _words(
        r"gado", rf"gad{_END}", rf"gd{_END}", r"post[-_ ]?(?:gd|gad|contrast|con|c|km|inj)",
        rf"ce{_END}", r"contrast[-_ ]?enh", rf"km{_END}", rf"post{_END}", r"with[-_ ]?contrast",
    ).pattern
    + r"|\+ ?(?:c|gd|gad|km)(?![a-z])"
)  # fmt: skip
_NO_AGENT = _words(
    r"pre[-_ ]?(?:gd|gad|contrast|km)", r"(?:ohne|nativ|without|non?)[-_ ]?(?:km|gd|contrast)",
    r"w/?o[-_ ]", r"nativ",
)  # fmt: skip


def says_t1(text: str) -> bool:
    """Whether a sequence's or series' name speaks of T1 weighting."""
    return bool(_T1.search(text.casefold()))


def says_volumetric_t1(text: str) -> bool:
    """Whether it names a 3-D T1w sequence: MPRAGE, SPGR, BRAVO, 3D TFE."""
    return bool(_VOLUMETRIC.search(text.casefold()))


def says_contrast_agent(text: str) -> bool:
    """Whether it speaks of a contrast agent that was given."""
    folded = text.casefold()
    return bool(_CONTRAST_AGENT.search(folded)) and not _NO_AGENT.search(folded)


def other_contrast(text: str) -> str | None:
    """What a name says the image is, when that is no T1w image of a head; else None."""
    folded = text.casefold()
    for kind, pattern in _ALWAYS.items():
        if pattern.search(folded):
            return kind
    if _T1.search(folded):
        return None
    for kind, pattern in _UNLESS_T1.items():
        if pattern.search(folded):
            return kind
    return None
