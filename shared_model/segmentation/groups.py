"""Parameter groups of networks that train from the first layer on."""

from __future__ import annotations

from shared_model.groups import ParameterGroups
from shared_model.layers.site_norm import (
    SiteNorm,
    fixed_parameter_patterns,
    site_parameter_patterns,
)
from shared_model.models.entry import EncoderUse


def trunk_groups(site_norm: SiteNorm, encoder: EncoderUse) -> ParameterGroups:
    """Everything is federated but layer A's own part; ``encoder`` is the whole network.

    There is no public pretraining of these networks yet, so ``frozen`` would keep random weights:
    both uses train all of it.
    """
    return ParameterGroups(
        frozen=fixed_parameter_patterns(site_norm),
        shared=("*",),
        site=site_parameter_patterns(site_norm),
    )


#: Sections of a plan that suit a task of lesions: background and lesion are the only classes, and
#: what moves a scan would leave its lesions behind. One step a round under Adam at the server, as
#: in docs/lesions.md: plain steps take many times as long to learn what is rare.
LESION_PLAN = {
    "task": {"labels": ("background", "lesion")},
    "augmentation": {"rotation_deg": 0.0, "shift_mm": 0.0, "scale": 0.0},
    "training": {
        "rounds": 320,
        "local_steps": 1,
        "sampling_rate": 0.1,
        "learning_rate": 1.0,
        "server_learning_rate": 0.01,
        "ema_decay": 0.9,
    },
    "aggregation": {"server_optimizer": "adam"},
}
