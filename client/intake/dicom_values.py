"""Single values of DICOM headers, whatever nonsense stands in them."""

from __future__ import annotations

import logging
import math
import re
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date, datetime
from typing import Any

import pydicom
from pydicom.dataset import Dataset

Vector = tuple[float, ...]
_LARGEST = 1e9  # NaN is not below it either


@contextmanager
def quiet() -> Iterator[None]:
    """pydicom's warnings quote values of the header, names among them: nobody shall see them."""
    settings, logger = pydicom.config.settings, logging.getLogger("pydicom")
    mode, level = settings.reading_validation_mode, logger.level
    settings.reading_validation_mode = pydicom.config.IGNORE
    logger.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        settings.reading_validation_mode = mode
        logger.setLevel(level)


def value_of(group: Dataset, keyword: str) -> Any:
    """A value as pydicom reads it; None where it is absent or does not fit its type."""
    try:
        return group.get(keyword)
    except Exception:  # such as '***' for a number
        return None


def text_of(group: Dataset, keyword: str) -> str:
    """A value as text, without the blanks and zero bytes that fill it up; empty for none."""
    value = value_of(group, keyword)
    return "" if value is None else str(value).strip().strip("\0")


def words_of(group: Dataset, keyword: str) -> tuple[str, ...]:
    """The values of an element with several, in capitals."""
    value = value_of(group, keyword)
    if value is None:
        return ()
    many = [value] if isinstance(value, str) else value
    return tuple(str(word).strip().upper() for word in many)


def vector_of(group: Dataset, keyword: str) -> Vector:
    """The numbers of an element; empty where one of them is none."""
    value = value_of(group, keyword)
    try:
        numbers = tuple(float(number) for number in value)
    except (TypeError, ValueError):
        return ()
    return numbers if all(map(math.isfinite, numbers)) else ()


def number_of(group: Dataset, keyword: str) -> float | None:
    """The first number of an element; None for what is no finite number."""
    value = value_of(group, keyword)
    if isinstance(value, Sequence) and not isinstance(value, str):
        value = value[0] if value else None
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if abs(number) < _LARGEST else None


def first_text(groups: Iterable[Dataset], *keywords: str) -> str:
    """The first text that is not empty; group by group, keyword by keyword."""
    found = (text_of(group, keyword) for group in groups for keyword in keywords)
    return next((text for text in found if text), "")


def first_number(groups: Iterable[Dataset], *keywords: str) -> float | None:
    """The first number that there is; group by group, keyword by keyword."""
    found = (number_of(group, keyword) for group in groups for keyword in keywords)
    return next((number for number in found if number is not None), None)


def parse_date(text: str, oldest: int = 1970) -> date | None:
    """A DICOM date, old ones with dots included; None for ``***``, nothing, and the impossible."""
    digits = re.fullmatch(r"(\d{4})[.\-]?(\d{2})[.\-]?(\d{2})", text.strip())
    if digits is None:
        return None
    try:
        found = date(*map(int, digits.groups()))
    except ValueError:
        return None
    return found if oldest <= found.year and found <= datetime.now().date() else None


def parse_age(text: str) -> int | None:
    """Whole years of a DICOM age: ``072Y``, ``018M``, a bare ``42``; None for 0 and nonsense."""
    match = re.fullmatch(r"(\d{1,3})([DWMY]?)", text.strip().upper())
    if match is None or int(match[1]) == 0:
        return None
    days = {"D": 1, "W": 7, "M": 30.4375, "Y": 365.25, "": 365.25}[match[2]]
    years = int(int(match[1]) * days / 365.25 + 1e-6)
    return years if years <= 120 else None
