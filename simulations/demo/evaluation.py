"""The demonstration's full evaluation: predictions as tables, document, page and model card."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from server.rounds.releases import released_body
from shared_model.evaluation.document import Progress, evaluate
from shared_model.evaluation.provenance import model_facts_of, privacy_of
from shared_model.evaluation.results import EvaluationDocument, Provenance
from shared_model.evaluation.writing import write_evaluation
from shared_model.protocol.arrays import body_digest, decode_arrays
from simulations.arms.arm import ArmResult
from simulations.arms.federated_arms import FederatedRun
from simulations.arms.hospital import Hospital
from simulations.evaluation.export import trained_on, write_predictions
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
    workspace: Workspace,
    out: Path,
    progress: Progress | None = None,
) -> EvaluationDocument:
    """Write ``predictions/``, ``evaluation.html``, ``.json``, ``.csv`` and ``model_card.md``."""
    plan = headline.plan
    tables = write_predictions(arms, hospitals, workspace, plan.task.labels, out)
    body = released_body(headline.run_dir)
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
