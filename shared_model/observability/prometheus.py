"""Prometheus's text format (0.0.4), written: figures with a name, a help text and labels."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Kind = Literal["counter", "gauge"]
_NAME = re.compile(r"[a-z_][a-z0-9_]*")


@dataclass
class Metric:
    """One family of samples; counters end in ``_total``, units stand in the name.

    Raises ValueError for a name or label that Prometheus does not take.
    """

    name: str
    kind: Kind
    help: str
    _samples: dict[tuple[tuple[str, str], ...], float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name) or (self.kind == "counter") != self.name.endswith(
            "_total"
        ):
            raise ValueError(f"not a name of a {self.kind}: {self.name}")

    def set(self, value: float, **labels: str) -> None:
        """The value for these labels; a later one replaces it."""
        for label in labels:
            if not _NAME.fullmatch(label) or label.startswith("__"):
                raise ValueError(f"not a label: {label}")
        self._samples[tuple(labels.items())] = float(value)

    def add(self, value: float, **labels: str) -> None:
        """Add to the value for these labels."""
        self.set(self._samples.get(tuple(labels.items()), 0.0) + value, **labels)

    def lines(self) -> Iterable[str]:
        """The family as text; nothing where there is no sample."""
        if not self._samples:
            return
        yield f"# HELP {self.name} {_escape(self.help)}"
        yield f"# TYPE {self.name} {self.kind}"
        for labels, value in self._samples.items():
            pairs = ",".join(f'{name}="{_escape(text, quote=True)}"' for name, text in labels)
            yield (
                f"{self.name}{{{pairs}}} {_number(value)}"
                if pairs
                else (f"{self.name} {_number(value)}")
            )


class Metrics:
    """All families of one answer, each under one name, in the order in which they were named."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._families: dict[str, Metric] = {}

    def gauge(self, name: str, text: str) -> Metric:
        """The family ``prefix_name``, made on first use."""
        return self._family(name, "gauge", text)

    def counter(self, name: str, text: str) -> Metric:
        """The same for what only grows; ``name`` ends in ``_total``."""
        return self._family(name, "counter", text)

    def render(self) -> str:
        """The whole answer."""
        families = self._families.values()
        return "".join(f"{line}\n" for family in families for line in family.lines())

    def _family(self, name: str, kind: Kind, text: str) -> Metric:
        full = f"{self._prefix}_{name}"
        return self._families.setdefault(full, Metric(full, kind, text))


def _escape(text: str, *, quote: bool = False) -> str:
    out = text.replace("\\", "\\\\").replace("\n", "\\n")
    return out.replace('"', '\\"') if quote else out


def _number(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
