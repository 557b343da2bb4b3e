"""Find and read scenarios, by shipped name or by path; every mistake has a number."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from shared_model.errors import SmrfedError
from simulations.scenarios.schema import Scenario

SHIPPED = Path(__file__).parent


@dataclass(frozen=True)
class NamedScenario:
    """A scenario with the name and folder of its file."""

    name: str
    folder: Path
    scenario: Scenario

    def chosen(
        self,
        seeds: Sequence[int] | None,
        arms: Sequence[str] | None,
        size: float | None = None,
    ) -> NamedScenario:
        """Only these seeds and arms, with the comparisons that are left; raises SMR-E684.

        ``size`` makes every generated archive so many times as large as the scenario says.
        """
        update: dict[str, object] = {}
        if size is not None:
            if self.scenario.cohort.archives:
                raise SmrfedError(
                    "SMR-E684",
                    f"scenario {self.name!r} cannot be made smaller or larger",
                    expected="--size with hospitals that are generated",
                    found="[cohort.archives]: patients who exist",
                    remedy="leave --size out",
                )
            update["cohort"] = self.scenario.cohort.model_copy(
                update={"size": self.scenario.cohort.size * size}
            )
        if seeds:
            update["seeds"] = tuple(dict.fromkeys(seeds))
        if arms:
            unknown = [arm for arm in arms if arm not in self.scenario.arms]
            if unknown:
                raise SmrfedError(
                    "SMR-E684",
                    f"scenario {self.name!r} has no such arm",
                    expected=", ".join(self.scenario.arms),
                    found=", ".join(unknown),
                    remedy="use the names of [arms.NAME] tables with --arms",
                )
            update["arms"] = {n: a for n, a in self.scenario.arms.items() if n in arms}
            left = []
            for entry in self.scenario.compare:
                minus = tuple(name for name in entry.minus if name in arms)
                if entry.arm in arms and minus:
                    left.append(entry.model_copy(update={"minus": minus}))
            update["compare"] = tuple(left)
            beside = self.scenario.beside
            kept = () if beside is None else tuple(name for name in beside.arms if name in arms)
            update["beside"] = (
                beside.model_copy(update={"arms": kept}) if beside is not None and kept else None
            )
        return NamedScenario(self.name, self.folder, self.scenario.model_copy(update=update))


def shipped_names() -> tuple[str, ...]:
    """Names that can be given instead of a path."""
    return tuple(sorted(path.stem for path in SHIPPED.glob("*.toml")))


def load_scenario(name_or_path: str) -> NamedScenario:
    """Read a scenario.

    Raises:
        SmrfedError: SMR-E680 (no such file or name), SMR-E681 (a field is missing, unknown or out
            of range).
    """
    path = _find(name_or_path)
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SmrfedError(
            "SMR-E680",
            f"cannot read the scenario {path}",
            expected="a TOML file",
            found=error,
            remedy="name a file that exists and is valid TOML; docs/scenarios.md shows one",
        ) from None
    try:
        scenario = Scenario.model_validate(data)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, item['loc'])) or 'scenario'}: {item['msg']}"
            for item in error.errors()
        )
        raise SmrfedError(
            "SMR-E681",
            f"the scenario {path} is not valid",
            found=problems,
            remedy="correct these fields; docs/scenarios.md lists each with its unit and range",
        ) from None
    return NamedScenario(path.stem, path.parent.absolute(), scenario)


def _find(name_or_path: str) -> Path:
    if name_or_path in shipped_names():
        return SHIPPED / f"{name_or_path}.toml"
    path = Path(name_or_path)
    if path.suffix == ".toml" or path.exists():
        return path
    raise SmrfedError(
        "SMR-E680",
        f"there is no scenario {name_or_path!r}",
        expected=f"a path that ends in .toml, or one of {', '.join(shipped_names())}",
        found=name_or_path,
        remedy="run smrfed-sim run without an argument to see the shipped scenarios",
    )
