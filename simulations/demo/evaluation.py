"""The demonstration's full evaluation: predictions as tables, document, page and model card."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from client.config import SiteConfig
from client.prepared.scan_source import scan_source
from client.training.site_model import SiteModel
from server.rounds.releases import released_body
from shared_model.evaluation.document import Beside, Progress, evaluate
from shared_model.evaluation.provenance import model_facts_of, privacy_of
from shared_model.evaluation.results import EvaluationDocument, Provenance
from shared_model.evaluation.side_tables import write_corrupted, write_embeddings
from shared_model.evaluation.writing import write_evaluation
from shared_model.protocol.arrays import body_digest, decode_arrays
from simulations.arms.arm import ArmResult
from simulations.arms.federated_arms import FederatedRun
from simulations.arms.hospital import Hospital
from simulations.evaluation.beside import corrupted_of, embeddings_of
from simulations.evaluation.corruption import KINDS
from simulations.evaluation.export import trained_on, write_predictions
from simulations.evaluation.run_folder import CORRUPTED, EMBEDDINGS
from simulations.federation.workspace import Workspace

PAGE = "evaluation.html"


def evaluate_demo(
    *,
    title: str,
    command: str,
    commit: str | None,
    seed: int,
    hospitals: Sequence[Hospital],
    arms: Sequence[ArmResult],
    headline: FederatedRun,
    model: SiteModel,
    workspace: Workspace,
    out: Path,
    robustness: bool = False,
    progress: Progress | None = None,
) -> EvaluationDocument:
    """Write ``predictions/``, ``embeddings/``, ``evaluation.html``, ``.json``, ``.csv`` and
    ``model_card.md``; with ``robustness`` also ``corrupted/`` of the headline.
    """
    plan = headline.plan
    tables = write_predictions(arms, hospitals, workspace, plan.task.labels, out)
    body = released_body(headline.run_dir)
    beside = _beside(arms, hospitals, headline, model, workspace, seed, robustness)
    for key, embedded in beside.embeddings.items():
        write_embeddings(embedded, out / EMBEDDINGS / f"{key}.csv")
    for key, worse in beside.corrupted.items():
        write_corrupted(worse, out / CORRUPTED / f"{key}.csv")
    document = evaluate(
        tables,
        draws=plan.evaluation.bootstrap_draws,
        seed=seed,
        headline=headline.arm.key,
        alone="alone" if "alone" in tables else None,
        titles={arm.key: arm.title for arm in arms},
        trained_on=trained_on(hospitals),
        provenance=Provenance(
            command=command,
            smrfed=version("smrfed"),
            commit=commit,
            plan_name=plan.name,
            plan_digest=plan.digest,
            model_sha256=body_digest(body),
            synthetic=True,
        ),
        privacy=privacy_of(plan, headline.arm.epsilon),
        title=f"{title}: full evaluation",
        beside=beside,
        progress=progress,
    )
    patients = sum(len(h.train_patients) for h in hospitals)
    count = sum(array.size for array in decode_arrays(body).values())
    facts = model_facts_of(plan, f"{patients} simulated patients", count)
    write_evaluation(
        document,
        out,
        facts.model_copy(
            update={"intended_use": "Demonstration of federated training on simulated patients."}
        ),
    )
    return document


def _beside(
    arms: Sequence[ArmResult],
    hospitals: Sequence[Hospital],
    headline: FederatedRun,
    model: SiteModel,
    workspace: Workspace,
    seed: int,
    robustness: bool,
) -> Beside:
    """Embeddings of every arm with one model; the headline's answers on worse scans, if asked."""
    embeddings = {
        arm.key: embeddings_of(model, arm.shared, hospitals)
        for arm in arms
        if arm.shared is not None
    }
    shared = headline.arm.shared
    if not robustness or shared is None:
        return Beside(embeddings)
    sources = {
        hospital.name: scan_source(
            SiteConfig.load(workspace.site_config(hospital.name)), headline.plan
        )
        for hospital in hospitals
    }
    worse = corrupted_of(model, shared, hospitals, sources, KINDS, (1, 3, 5), seed)
    return Beside(embeddings, {headline.arm.key: worse})
