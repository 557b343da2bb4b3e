"""What is kept about one prepared scan beside its volume."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

from client.archive.problems import Defect, Problem
from client.quality.scan_measures import ScanMeasures


class ScanDefect(BaseModel):
    """Why a scan could not be prepared; names no file and no person."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    code: str
    case: str

    @field_validator("code")
    @classmethod
    def _is_known(cls, code: str) -> str:
        # What a later version recorded is found out anew.
        if all(kind.code != code for kind in Problem):
            raise ValueError(f"no problem has the number {code}")
        return code

    @classmethod
    def of(cls, defect: Defect, path: str) -> ScanDefect:
        """A defect without the path of its file."""
        return cls(code=defect.kind.code, case=defect.case.replace(path, "").strip(": "))

    @property
    def kind(self) -> Problem:
        """The kind of problem."""
        return next(kind for kind in Problem if kind.code == self.code)


class ScanRecord(BaseModel):
    """One scan under one recipe: what was found, or why nothing was.

    A scan that could not be prepared is recorded too, so that it is not tried again until it or the
    recipe changes.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    source_sha256: str = Field(description="of the file's bytes")
    voxels_sha256: str | None = Field(default=None, description="of its voxels in RAS+")
    defect: ScanDefect | None = None
    measures: ScanMeasures | None = Field(default=None, description="for quality control")
    findings: Mapping[str, Any] = Field(default_factory=dict, description="of the steps, by name")
    to_mni: tuple[tuple[float, ...], ...] | None = Field(
        default=None, description="4 x 4, scanner mm to MNI152 mm"
    )
    regions: Mapping[str, Mapping[str, float]] = Field(
        default_factory=dict, description="volumes in mm3 per atlas region, by tissue"
    )
    head: Mapping[str, float] = Field(
        default_factory=dict, description="volumes in mm3 of the whole head"
    )
    files: Mapping[str, str] = Field(
        default_factory=dict, description="SHA-256 of the files beside this one, by suffix"
    )
    steps: tuple[Mapping[str, Any], ...] = Field(
        default=(), description="name, version and parameters of every step"
    )

    @property
    def is_prepared(self) -> bool:
        """Whether there is a volume."""
        return self.defect is None
