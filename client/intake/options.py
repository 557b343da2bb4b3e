"""How this hospital's DICOM files and clinical table are read: ``[dicom]`` in site.toml."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from client.site_path import SitePath


class ClinicalTable(BaseModel):
    """A CSV or TSV with the diagnoses, one row per patient or per visit."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: SitePath = Field(description="the file; only read")
    patient_id: str = Field(description="column with the PatientID of the DICOM headers")
    diagnosis: str = Field(description="column with the diagnosis; its words go into [labels]")
    visit_date: str | None = Field(
        default=None, description="column with the visit's date, where there is a row per visit"
    )
    age: str | None = Field(default=None, description="column with the age at the visit, years")
    sex: str | None = Field(default=None, description="column with M, F or O")
    mmse: str | None = Field(default=None, description="column with the MMSE, 0 to 30")
    numbers: tuple[str, ...] = Field(default=(), description="further columns of numbers")
    issuer: str | None = Field(
        default=None, description="column with the issuer of the id; needed with use_issuer"
    )
    delimiter: Literal["auto", ",", ";", "\t", "|"] = Field(
        default="auto", description="between cells; auto looks at the header line"
    )
    encoding: str = Field(default="auto", description="auto: UTF-8, else Windows-1252 (Latin-1)")
    date_formats: tuple[str, ...] = Field(
        default=("%Y-%m-%d", "%Y%m%d", "%d.%m.%Y"),
        min_length=1,
        description="how dates are written; 03/04/2021 is ambiguous and must be named: %d/%m/%Y",
    )
    visit_window_days: int = Field(
        default=183, ge=0, le=3650, description="a scan belongs to the nearest visit within this"
    )

    @model_validator(mode="after")
    def _numbers_have_their_own_names(self) -> Self:
        names = [name.strip().casefold() for name in self.numbers]
        taken = {"participant_id", "session_id", "age", "sex", "diagnosis", "mmse", "acq_time"}
        # Columns that the course of MCI is read from.
        taken |= {"months", "date", "progression"}
        if len(set(names)) != len(names) or taken & set(names) or not all(names):
            raise ValueError(f"numbers must differ, and from {', '.join(sorted(taken))}")
        return self


class IntakeOptions(BaseModel):
    """What of the DICOM files is taken, and how."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    clinical_table: ClinicalTable | None = Field(
        default=None, description="without one, nobody has a diagnosis and nothing can be trained"
    )
    use_issuer: bool = Field(
        default=False,
        description="the same PatientID of two issuers is two people; needs the issuer everywhere",
    )
    thickest_slice_mm: float = Field(
        default=3.0, gt=0, le=10, description="series with slices further apart are not taken"
    )
    derived: Literal["last", "never"] = Field(
        default="last", description="derived or tag-poor series, where nothing native exists"
    )
    contrast_agent: Literal["last", "never"] = Field(
        default="last", description="scans after a contrast agent, where nothing else exists"
    )
    workers: int = Field(default=2, ge=1, le=256, description="conversions at the same time")
    timeout_s: float = Field(default=600.0, gt=0, description="for one conversion, seconds")
