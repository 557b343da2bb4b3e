"""The models that a hospital holds of a run, on its own test patients, at the hospital."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import version

from client.agent.durable import make_private_folder
from client.agent.evaluation import probabilities
from client.agent.site_data import SiteData, training_device
from client.agent.state import StateFolder
from client.archive.patients import Patient
from client.archive.plan_split import split_by_plan
from client.archive.split import Split
from client.config import SiteConfig
from client.evaluation.held_model import HeldModel
from client.evaluation.site_table import site_table
from client.leakage.cohorts import cohort_of, refuse_overlap
from client.leakage.hash_lists import external_cohorts, pretraining_cohort
from client.prepared.scan_fields import ScanFields
from client.prepared.scan_source import scan_source
from client.training.examples import PatientExamples, patient_examples
from client.training.site_model import SiteModel
from shared_model.atlas.select import load_atlas
from shared_model.evaluation.document import evaluate
from shared_model.evaluation.provenance import privacy_of
from shared_model.evaluation.results import EvaluationDocument, Provenance
from shared_model.evaluation.table import PredictionTable
from shared_model.evaluation.table_file import write_csv, write_text
from shared_model.evaluation.writing import Written, write_evaluation
from shared_model.plan import FederationPlan
from shared_model.protocol.arrays import Arrays

RELEASED, PERSONALISED = "released", "personalised"
TITLES = {
    RELEASED: "Released model, as an unseen hospital runs it",
    PERSONALISED: "Released model with this hospital's own parameters",
}
NOTICE = (
    "Nothing in this folder may leave the hospital: the figures depend on single patients, without "
    "noise.\nWhat may leave goes through the site's policy and egress gate.\n"
)


def predictions_at_site(
    config: SiteConfig,
    plan: FederationPlan,
    held: HeldModel,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[dict[str, PredictionTable], set[str]]:
    """Tables of the released and the personalised model, and the training patients' names.

    Test patients are those of the plan's split; at a hospital that the plan does not name,
    everybody. Patients on two sides, or of the pretraining, are refused as in training. Raises the
    archive's SMR-E2xx, SMR-E305, E330 and E421.
    """
    model = SiteModel.build(
        plan,
        load_atlas(plan.atlas, plan.input.grid),
        config.weights_folders,
        training_device(config.device),
    )
    model.load_shared(held.shared)
    seen, split, examples = patients_at_site(config, plan, model, progress)
    known = {patient.id: patient for patient in split.test}
    chosen = [known[example.id] for example in examples]
    tables = {}
    for key in with_own_parameters(model, held):
        label, probability = probabilities(model, examples)
        tables[key] = site_table(
            config.name,
            config.dataset,
            config.label_mapping,
            plan.task.labels,
            chosen,
            label,
            probability,
            seen=seen,
        )
    return tables, {f"{config.name}/{patient.id}" for patient in split.train}


def with_own_parameters(model: SiteModel, held: HeldModel) -> Iterator[str]:
    """Put the released and then the personalised parameters into the model, where there are any."""
    arms: Mapping[str, Arrays | None] = {RELEASED: None, PERSONALISED: held.site}
    for key, own in arms.items():
        if key == PERSONALISED and own is None:
            continue
        model.reset_site()
        if own is not None:
            model.load_own(own)
        yield key


def patients_at_site(
    config: SiteConfig,
    plan: FederationPlan,
    model: SiteModel,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[bool, Split, tuple[PatientExamples, ...]]:
    """Whether the site took part, its split, and examples of those that may be tested on."""
    patients = scan_source(config, plan).patients()
    if config.name in plan.weights:
        data = SiteData(config, plan, model)
        data.prepare(progress)
        return True, split_by_plan(patients, plan), data.test
    return False, Split((), patients), _everybody(config, plan, model, patients, progress)


def _everybody(
    config: SiteConfig,
    plan: FederationPlan,
    model: SiteModel,
    patients: Sequence[Patient],
    progress: Callable[[int, int], None] | None,
) -> tuple[PatientExamples, ...]:
    """Examples of all patients of a hospital that trained nothing."""
    source = scan_source(config, plan)
    source.prepare(patients, progress)
    test = cohort_of("test", patients, source.voxels_sha256)
    apart = external_cohorts(config.external_hashes)
    weights = plan.model.weights_sha256
    public = None if weights is None else pretraining_cohort(weights, config.weights_folders)
    refuse_overlap(test, *apart, *(() if public is None else (public,)))
    tokens = StateFolder(config.state_dir).tokens
    fields = ScanFields(config, plan)
    return tuple(patient_examples(model, patients, source, tokens, fields=fields))


def evaluate_at_site(
    config: SiteConfig,
    plan: FederationPlan,
    held: HeldModel,
    epsilon: float | None,
    draws: int,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[EvaluationDocument, Written]:
    """Evaluate and write below ``state_dir/evaluations``, readable by the owner only."""
    tables, trained_on = predictions_at_site(config, plan, held, progress)
    document = evaluate(
        tables,
        draws=draws,
        seed=plan.seed,
        headline=PERSONALISED if PERSONALISED in tables else RELEASED,
        titles=TITLES,
        trained_on=trained_on,
        provenance=Provenance(
            command=f"smrfed-site evaluate {held.name}",
            smrfed=version("smrfed"),
            plan_name=plan.name,
            plan_digest=plan.digest,
            model_sha256=held.sha256,
        ),
        privacy=privacy_of(
            plan, epsilon, "spent by this hospital, all plans together, by its ledger"
        ),
        title=f"{config.name}: evaluation of {held.name}",
        scope="stays",
    )
    folder = StateFolder(config.state_dir).evaluations / held.name
    make_private_folder(folder.parent)
    make_private_folder(folder)
    write_text(folder / "MUST_NOT_LEAVE.txt", NOTICE)
    for key, table in tables.items():
        write_csv(table, folder / f"predictions-{key}.csv")
    return document, write_evaluation(document, folder)
