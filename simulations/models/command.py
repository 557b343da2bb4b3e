"""``smrfed-sim models``: which models a plan can name, one of them in full, and its check."""

from __future__ import annotations

import json
import tomllib
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

models_app = typer.Typer(
    help="Models that a plan can name: list, show, check.", invoke_without_command=True
)

_out = Console(soft_wrap=True, highlight=False)
_Name = Annotated[str, typer.Argument(help="name in the registry", metavar="NAME")]
_Options = Annotated[
    list[str] | None,
    typer.Option("--option", metavar="KEY=VALUE", help="an option of the model; repeatable"),
]


@models_app.callback()
def list_models(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON list, for scripts")] = False,
) -> None:
    """List the registered models, those of other installed packages too."""
    if context.invoked_subcommand is not None:
        return
    from shared_model.registry import model_names
    from simulations.models.described import describe

    with Console(stderr=True).status("building each model with its default options"):
        rows = [describe(name) for name in model_names()]
    if as_json:
        typer.echo(json.dumps([row.as_json() for row in rows], indent=2))
        return
    table = Table("model", "task", "inputs", "parameters", "federated")
    for column, justify in zip(
        table.columns, ("left", "left", "left", "right", "right"), strict=True
    ):
        column.justify = justify  # type: ignore[assignment]
    table.columns[0].no_wrap = table.columns[1].no_wrap = True
    for row in rows:
        counts = (f"{row.parameters:,}", f"{row.federated:,}")
        table.add_row(row.name, row.task, ", ".join(row.inputs), *counts)
    Console(highlight=False).print(table)
    for row in rows:
        _out.print(f"[bold]{escape(row.name)}[/bold]: {escape(row.about)} {escape(row.source)}")
    _out.print("federated: with the groups that a plan starts from (a frozen encoder is public)")


@models_app.command("show")
def show_model(
    name: _Name,
    option: _Options = None,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object")] = False,
) -> None:
    """Options with ranges, parameter groups, and the sections of a plan, ready to paste."""
    from shared_model.models.plan_sections import plan_sections
    from shared_model.registry import model_entry
    from simulations.models.described import describe, fragment, option_rows

    options = _parsed(option)
    entry, row = model_entry(name), describe(name, options)
    if as_json:
        sections = plan_sections(name, options)
        keys = ("name", "values", "default", "description")
        rows = [dict(zip(keys, cells, strict=True)) for cells in option_rows(name)]
        shown = row.as_json() | {"options": rows, "presets": dict(entry.presets), "plan": sections}
        typer.echo(json.dumps(shown, indent=2))
        return
    _out.print(f"[bold]{escape(name)}[/bold]: {escape(row.about)}")
    _out.print(f"source: {escape(row.source)}")
    _out.print(f"task: {row.task}; inputs: {', '.join(row.inputs)}")
    _out.print(f"parameters: {row.parameters:,}, of which {row.federated:,} federated by default")
    table = Table("option", "values", "default", "what it does", title="options: [model.config]")
    for cells in option_rows(name):
        table.add_row(*map(escape, cells))
    Console(highlight=False).print(table)
    if entry.presets:
        presets = Table("name", "config", title="presets: a model of the literature by its name")
        for key, config in entry.presets.items():
            text = ", ".join(f"{k} = {json.dumps(v)}" for k, v in config.items())
            presets.add_row(escape(key), escape(f"{{ {text} }}" if text else "{}"))
        Console(highlight=False).print(presets)
    _out.print("# sections of a plan, TOML")
    _out.print(escape(fragment(name, options)))


@models_app.command("check")
def check(
    name: _Name,
    option: _Options = None,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON list")] = False,
) -> None:
    """Check that each scan is computed for itself; exit code 1 where it is not (SMR-E745)."""
    from simulations.models.check import check_model, require_safe

    checks = check_model(name, _parsed(option))
    if as_json:
        typer.echo(json.dumps([vars(one) for one in checks], indent=2))
    else:
        table = Table("check", "found", "")
        for one in checks:
            table.add_row(one.what, escape(one.figure), "ok" if one.passed else "[red]FAILED[/red]")
        Console(highlight=False).print(table)
    require_safe(name, checks)


def _parsed(values: list[str] | None) -> dict[str, Any]:
    """Options with values as TOML writes them; a bare word is a text."""
    options: dict[str, Any] = {}
    for value in values or ():
        key, equals, text = value.partition("=")
        if not equals or not key:
            raise typer.BadParameter(f"{value!r} is not KEY=VALUE")
        try:
            options[key] = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            options[key] = text
    return options
