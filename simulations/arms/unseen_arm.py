"""What an unseen hospital makes of a released model with layer C, as ``smrfed-site adapt`` does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from client.agent.evaluation import mean_deviations
from server.checkpoints.run_directory import RunDirectory
from server.export import released_moments
from shared_model.adaptation.adapt import adapt
from shared_model.errors import SmrfedError
from simulations.arms.hospital import Hospital
from simulations.evaluation.predictions import Predictions

# Too few scans, or scans unlike everything that the model learnt from: the hospital then uses the
# model as it was released.
_REFUSED = ("SMR-E641", "SMR-E646")


def adapted_predictions(
    run_dir: RunDirectory, hospitals: Sequence[Hospital], released: Mapping[str, Predictions]
) -> dict[str, Predictions]:
    """Predictions at the hospitals held out, adapted to their own scans without a label.

    The rows are those that decide: the released model's rule on scores without the hospital's
    offset. Raises SMR-E643 where the run released no moments.
    """
    moments = released_moments(run_dir)
    out = {}
    for hospital in hospitals:
        if not hospital.held_out:
            continue
        own = released[hospital.name]
        try:
            found = adapt(
                own.probability, mean_deviations(hospital.test), moments.source,
                moments.scores_radius,
            )  # fmt: skip
        except SmrfedError as error:
            if error.code not in _REFUSED:
                raise
            out[hospital.name] = own
        else:
            out[hospital.name] = replace(own, probability=found.decisions(own.probability))
    return out
