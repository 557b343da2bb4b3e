"""The one way in which pages are made: strict, escaped, in the style of the evaluation's page."""

from __future__ import annotations

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

from simulations.report import wording


def page_environment(*packages: str) -> Environment:
    """Templates of ``packages`` and of the report; every name is escaped, none may be missing.

    ``base.css`` is that of :mod:`shared_model.evaluation`.
    """
    environment = Environment(
        loader=ChoiceLoader(
            [
                *(PackageLoader(package, "templates") for package in packages),
                PackageLoader("simulations.report", "templates"),
                PackageLoader("shared_model.evaluation", ""),
            ]
        ),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"moment": wording.moment}
    return environment
