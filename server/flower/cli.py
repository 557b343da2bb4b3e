"""``smrfed-coordinator flower``: register nodes, build the bundle, start and stop runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from server.checkpoints.run_directory import RunDirectory
from server.flower.deployment import Deployment

app = typer.Typer(help="Runs over Flower.", no_args_is_help=True)

Address = Annotated[str, typer.Option("--superlink", help="host:port of the SuperLink")]
Authority = Annotated[
    Path, typer.Option("--root-certificates", help="PEM file of the certificate authority")
]
RunPath = Annotated[Path, typer.Argument(help="run directory", metavar="RUN_DIR")]

_LOCAL = "127.0.0.1:18000"


@app.command()
def bundle(
    folder: Annotated[Path, typer.Argument(help="folder in which smrfed-entry is written")],
) -> None:
    """Write the app bundle and print its hash, the same for every installation of this version."""
    from server.flower.fab import write_app_bundle

    written = write_app_bundle(folder)
    print(json.dumps({"directory": str(written.directory), "sha256": written.sha256}))


@app.command()
def register(
    site: Annotated[str, typer.Argument(help="name of the site in the plan")],
    node_key: Annotated[Path, typer.Argument(help="the site's public node key, OpenSSH format")],
    authority: Authority,
    superlink: Address = _LOCAL,
) -> None:
    """Admit a site's SuperNode under the site's name."""
    from server.flower.control import ControlApi

    with ControlApi(superlink, authority) as control:
        print(json.dumps({"site": site, "node_id": control.register_node(site, node_key)}))


@app.command()
def online(authority: Authority, superlink: Address = _LOCAL) -> None:
    """List the sites whose SuperNode is connected."""
    from server.flower.control import ControlApi

    with ControlApi(superlink, authority) as control:
        print(json.dumps(sorted(control.online_sites())))


@app.command()
def start(
    run_dir: RunPath,
    key: Annotated[Path, typer.Option(help="the coordinator's private signing key")],
    site_keys: Annotated[Path, typer.Option(help="folder with SITE.pub for every site")],
    authority: Authority,
    superlink: Address = _LOCAL,
) -> None:
    """Start a run, or go on with one that was interrupted, and print Flower's run id.

    The driver's settings in ``RUN_DIR/deployment.toml`` stay as they are when the file exists.
    """
    import tempfile

    from server.flower.control import ControlApi
    from server.flower.fab import write_app_bundle

    run = RunDirectory.open(run_dir)
    deployment = Deployment(coordinator_key=key.resolve(), site_keys=site_keys.resolve())
    if Deployment.exists(run_dir):
        deployment = deployment.model_copy(update={"driver": Deployment.load(run_dir).driver})
    deployment.public_keys(run.plan)
    deployment.save(run_dir)
    with tempfile.TemporaryDirectory() as folder, ControlApi(superlink, authority) as control:
        run_id = control.start_run(write_app_bundle(Path(folder)), run_dir)
    print(json.dumps({"run_id": run.run_id, "flower_run_id": run_id}))


@app.command()
def stop(
    flower_run_id: Annotated[int, typer.Argument(help="as `start` printed it")],
    authority: Authority,
    superlink: Address = _LOCAL,
) -> None:
    """Stop a run; its finished rounds stay, and `start` goes on from them."""
    from server.flower.control import ControlApi

    with ControlApi(superlink, authority) as control:
        control.stop_run(flower_run_id)
