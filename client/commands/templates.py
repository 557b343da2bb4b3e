"""The files that ``smrfed-site init`` writes, with every setting and what it means."""

from __future__ import annotations

_SITE = """\
# This hospital's side of the federation. Paths may be relative to this file.

# The name that the plan uses for this hospital: a-z, 0-9 and hyphens.
name = "{name}"

# A BIDS folder: participants.tsv and sub-*/[ses-*/]anat/*_T1w.nii.gz; or, with [dicom] below, a
# folder of DICOM files. It is only read.
archive = "archive"


# Key, ledger, receipts, accepted plans, prepared scans and models. Back it up; it never leaves.
state_dir = "state"

# The coordinator's public key; compare its fingerprint by telephone.
coordinator_key = "coordinator.pub"

# What this hospital allows; only the hospital changes it.
policy = "policy.toml"

# Where the agent listens for its courier: a short path, in a folder of the agent's own.
socket = "run/agent.sock"

# Where the network part runs in an account of its own (docs/site.md): a group that both accounts
# are in, and the folder of the node key, which then belongs to the other account.
# socket_group = "smrfed-socket"
# connection_dir = "/var/lib/smrfed-network"

# Loopback port between SuperNode and SuperExec; another one for each hospital on a machine.
# node_port = 9094

# "auto" takes a GPU if there is one; or "cpu", "cuda".
device = "auto"

# Processor threads for training.
threads = 1

# A folder with public initial weights (*.safetensors) that are not installed with smrfed.
# weights = "weights"

# Digests of images of other cohorts that must be neither trained nor tested on (docs/splits.md).
# external_hashes = ["adni.hashes.txt"]

# People in participants.tsv without an image: "error", or "skip" to leave them out.
missing_images = "error"

# Scans without a lesion mask, in plans about lesions: "error", or "skip" to leave them out.
missing_masks = "error"

# The plan's labels, each with this archive's own words for it; exclude lists words that take no
# part. A word that is neither mapped nor excluded is an error: nobody is left out by accident.
[labels]
CN = ["CN"]
MCI = ["MCI"]
AD = ["AD"]
exclude = []

# Columns of participants.tsv and of the sessions tables, where their names are not the usual ones.
[columns]
# diagnosis = "diagnosis"
# age = "age"
# sex = "sex"

# The way out to the coordinator, where the environment's HTTPS_PROXY and NO_PROXY do not say it.
[network]
# proxy = "http://proxy.hospital.example:3128"
# A new app bundle of the coordinator runs once a person says smrfed-site allow-courier; with
# "accept", as soon as smrfed-site renew hears of it.
# courier_updates = "ask"

# For an archive of DICOM files (docs/intake.md): the table with the diagnoses.
# [dicom.clinical_table]
# path = "clinical.csv"
# patient_id = "PatientID"
# diagnosis = "diagnosis"
"""

POLICY_TOML = """\
# What may be trained here and what may leave. The coordinator cannot widen it; a plan beyond these
# limits is refused by number (docs/privacy.md). What is left out keeps the value shown; a name that
# is not known here stops everything. "smrfed-site policy check PLAN" explains what follows.

# "local": differential privacy per patient, noise added inside this hospital.
# "distributed": the hospitals add shares of one noise to a sum of which nobody sees a part; the
# other hospitals are trusted with their shares, as far as the plan counts on them.
# "central": the coordinator adds that noise, and is trusted with the exact sum of all hospitals.
# "none": no guarantee; only for public or synthetic data.
modes = ["local"]

# The only models, plans (digests) and coordinator keys (fingerprints); without these lines: the
# models of this installation (smrfed-sim models lists them), the plans that a person accepts, the
# key that site.toml names.
# allowed_models = ["smrnet"]
# allowed_plans = ["<64 hexadecimal digits>"]
# coordinators = ["0123-4567-89ab-cdef-0123-4567-89ab-cdef"]

# Cap of epsilon over all plans and runs of this hospital's patients, at the plan's delta.
max_epsilon = 10.0

# Cap of one plan's budget; without this line: max_epsilon.
# max_epsilon_per_plan = 8.0

# Largest delta that a plan may use; well below one over the number of patients.
max_delta = 1e-5

# Largest reply: bytes, and numbers in it.
max_reply_bytes = 4194304
max_shared_parameters = 50000

# Training loss and drawn patients in mode "none"; in a private mode no metrics ever leave.
allow_metrics = false

# Counts on test patients, sums for calibration, moments of embeddings that align the sites: with
# noise of this hospital's own, and charged, in every private mode.
allow_evaluation = false
allow_calibration = false
allow_moments = false

# Mode "none": nothing that was counted over fewer patients leaves. (In a private mode the noise
# protects every patient of a cell of any size.)
min_cell = 10

# An answer leaves a multiple of so many seconds after its instruction came, so that its time tells
# less about the patients.
reply_pace_s = 1.0

# Data leaves in these windows only; without them at any hour. The coordinator asks again later.
# [[release_hours]]
# days = ["mon", "tue", "wed", "thu", "fri"]
# start = "08:00"
# end = "18:00"
# timezone = "Europe/Berlin"

# Above the windows, if wanted: replies with data, and their bytes, in any 24 hours; and the disk
# for copies of what left (smrfed-site receipts show).
# max_releases_per_day = 100
# max_bytes_per_day = 100000000
# max_sent_archive_bytes = 1073741824
"""


def site_toml(name: str) -> str:
    """The commented ``site.toml`` of a new site."""
    return _SITE.format(name=name)
