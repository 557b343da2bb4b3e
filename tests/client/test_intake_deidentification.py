"""Nothing that says who a patient is gets into anything that an intake writes."""

from __future__ import annotations

import gzip
import io
import json
import logging
import subprocess
import sys
import unicodedata
from dataclasses import replace
from datetime import date
from pathlib import Path

import nibabel
import numpy as np
import pytest
from dicom_fixture import Identity, Study, write_series
from dicom_protocols import GE_BRAVO, SIEMENS_MPRAGE, T2_FLAIR, UIH_GRE_FSP

from client.intake.convert import anonymous_nifti
from client.intake.intake import take_in
from client.intake.options import ClinicalTable, IntakeOptions

KEY = bytes(range(32))
BORN, SEEN = date(1943, 11, 27), date(2019, 3, 14)
PERSON = Identity(
    "PZQ7781204", name="Kowalczyk^Bronislawa", birth_date="19431127", accession="ACC99817263",
    institution="Sankt Quirinus", operator="Hassenpflug^Xaver", serial="SN5550187",
)  # fmt: skip
STUDY = Study("20190314", time="093217")


def spellings(day: date) -> list[str]:
    """A date as people and machines write it."""
    formats = ("%Y%m%d", "%Y-%m-%d", "%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%Y.%m.%d", "%d %b %Y",
               "%y%m%d", "%d%m%Y", "%B %d, %Y", "%d-%b-%Y")  # fmt: skip
    return [day.strftime(pattern) for pattern in formats]


PLANTED = [
    "Kowalczyk", "Bronislawa", "PZQ7781204", "7781204", "ACC99817263", "99817263", "Quirinus",
    "Hassenpflug", "Xaver", "SN5550187", "093217", "09:32:17", *spellings(BORN), *spellings(SEEN),
]  # fmt: skip


def everything_written(folder: Path) -> dict[str, bytes]:
    """Bytes of every file, unpacked where they are packed, and every name and link."""
    out = {}
    for path in folder.rglob("*"):
        name = str(path.relative_to(folder))
        out[f"the name {name}"] = name.encode()
        if path.is_symlink():
            out[f"the link {name}"] = str(path.readlink()).encode()
        elif path.is_file():
            content = path.read_bytes()
            out[name] = content
            if content[:2] == b"\x1f\x8b":
                out[f"{name}, packed header"] = content[:64]
                out[f"{name}, unpacked"] = gzip.decompress(content)
    return out


def found(places: dict[str, bytes]) -> list[tuple[str, str]]:
    encodings = ("utf-8", "utf-16-le", "utf-16-be")
    return [
        (place, text)
        for place, content in ((place, content.lower()) for place, content in places.items())
        for text in PLANTED
        if any(text.lower().encode(encoding) in content for encoding in encodings)
    ]


def plant(tmp_path: Path) -> Path:
    """An export whose folders, headers and neighbours are full of what must not get out."""
    root = tmp_path / f"{PERSON.name} {PERSON.birth_date}" / PERSON.patient_id
    described = f"t1_mprage {PERSON.name} {PERSON.accession}"
    protocol = SIEMENS_MPRAGE.with_tags(
        SeriesDescription=described, ProtocolName=described, ImageComments=described,
        AdditionalPatientHistory=f"born {BORN:%d.%m.%Y}", PatientAddress="Quirinus",
        StudyID=PERSON.accession, RequestedProcedureDescription=PERSON.name,
        SequenceName="*tfl3d1_Xaver",
    )  # fmt: skip
    protocol.tags["ImageType"] = [*protocol.tags["ImageType"], "KOWALCZYK"]
    write_series(root / PERSON.name, protocol, PERSON, STUDY)
    write_series(
        root / "t2", T2_FLAIR.with_tags(SeriesDescription=f"T2 {described}"), PERSON, STUDY
    )
    # What makes a message: an impossible value, a file that is cut short, a damaged header.
    odd = GE_BRAVO.with_tags(30, SeriesDescription=described, PatientSize="1.6")
    odd.tags["EchoTrainLength"] = 1234567890
    says_it_there = replace(PERSON, age="Bronislawa")
    files = write_series(root / "odd", odd, says_it_there, STUDY, cut_short={40})
    for path in files:
        path.write_bytes(path.read_bytes().replace(b"1234567890", b"Bronislawa"))
    damaged = bytearray(files[0].read_bytes())
    damaged[140:300] = PERSON.name.encode().ljust(160, b"^")
    (root / f"{PERSON.name}.damaged").write_bytes(damaged)
    # A series that dcm2niix cannot convert, in a later study.
    later = Study("20190314", number=2)
    for path in write_series(root / "later", UIH_GRE_FSP, PERSON, later):
        content = path.read_bytes()
        path.write_bytes(content.replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.5\0"))
    (root / "report.txt").write_text(" ".join(PLANTED))
    return root.parent.parent / f"{PERSON.name} {PERSON.birth_date}"


def clinical(tmp_path: Path) -> ClinicalTable:
    path = tmp_path / "Kowalczyk.csv"
    path.write_text(
        "id;dx;when;born;name;cdr\n"
        f"{PERSON.patient_id};CN;{SEEN:%Y-%m-%d};{BORN};{PERSON.name};{PERSON.name}\n"
        f"{PERSON.patient_id};AD;{BORN:%d/%m/%Y};{BORN};{PERSON.name};1\n"
        "too;few\n"
    )
    return ClinicalTable(
        path=path, patient_id="id", diagnosis="dx", visit_date="when", numbers=("cdr",)
    )


@pytest.mark.parametrize("with_table", [False, True], ids=["scans alone", "with a table"])
def test_nothing_planted_is_in_anything_written_or_said(
    tmp_path: Path,
    with_table: bool,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    source = plant(tmp_path / "in")
    options = IntakeOptions(clinical_table=clinical(tmp_path / "in") if with_table else None)
    caplog.clear()
    capfd.readouterr()
    caplog.set_level(logging.DEBUG)
    said = io.StringIO()
    target = tmp_path / "out" / "state" / "bids"
    report = take_in(source, target, options, KEY, lambda *what: print(*what, file=said))
    assert report.images == 1
    assert {e.code for e in report.exclusions} >= {"SMR-E251", "SMR-E254"}
    places = everything_written(tmp_path / "out")
    assert any(place.endswith("_T1w.nii.gz, unpacked") for place in places)
    output = capfd.readouterr()
    places |= {
        "report": json.dumps(report.to_json()).encode() + repr(report).encode(),
        "log": caplog.text.encode(),
        "progress": said.getvalue().encode(),
        "stdout": output.out.encode(),
        "stderr": output.err.encode(),
    }
    assert found(places) == []


def test_the_search_finds_what_is_planted(tmp_path: Path) -> None:
    source = plant(tmp_path)
    texts = {text for _, text in found(everything_written(source.parent))}
    assert {"Kowalczyk", "PZQ7781204", "ACC99817263", "Quirinus", "Xaver", "19431127"} <= texts


def test_a_process_of_its_own_is_silent_about_patients(tmp_path: Path) -> None:
    source = plant(tmp_path / "in")
    script = (
        "import logging, sys; from pathlib import Path\n"
        "from client.intake.intake import take_in\n"
        "from client.intake.options import IntakeOptions\n"
        "logging.basicConfig(level=logging.DEBUG)\n"
        "take_in(Path(sys.argv[1]), Path(sys.argv[2]), IntakeOptions(), bytes(32), print)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(source), str(tmp_path / "out" / "bids")],
        capture_output=True,
        check=True,
    )
    assert b"converting" in done.stdout
    assert found({"stdout": done.stdout, "stderr": done.stderr}) == []


def test_texts_and_extensions_of_a_nifti_header_are_removed() -> None:
    voxels = np.arange(5 * 6 * 7, dtype=np.int16).reshape(5, 6, 7)
    image = nibabel.Nifti1Image(voxels, np.diag([1.0, 2.0, 3.0, 1.0]))
    image.header["descrip"] = b"Kowalczyk 19431127"
    image.header["aux_file"] = b"PZQ7781204"
    image.header["db_name"] = b"Bronislawa"
    image.header["intent_name"] = b"Xaver"
    comment = nibabel.nifti1.Nifti1Extension("comment", b"ACC99817263 Hassenpflug")
    image.header.extensions.append(comment)
    content = image.to_bytes() + b"Quirinus behind the voxels"
    clean = gzip.decompress(anonymous_nifti(content))
    assert found({"before": content})
    assert found({"after": clean}) == []
    back = nibabel.Nifti1Image.from_bytes(clean)
    assert np.array_equal(np.asarray(back.dataobj), voxels)
    assert back.affine == pytest.approx(image.affine)
    assert anonymous_nifti(content) == anonymous_nifti(content)


def test_names_in_other_scripts_and_forms_are_the_same_patient() -> None:
    from client.intake.pseudonym import pseudonym

    composed = unicodedata.normalize("NFC", "Müller-7")
    assert pseudonym(KEY, composed) == pseudonym(KEY, unicodedata.normalize("NFD", "MÜLLER-7 "))
    assert pseudonym(KEY, "a", "b") != pseudonym(KEY, "b", "a")
    assert len(pseudonym(KEY, "x")) == 20
