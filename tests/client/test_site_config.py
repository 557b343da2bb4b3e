"""``site.toml``: what is read, relative to what, and what is refused by number and field."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from pydantic import ValidationError

from client.commands.templates import site_toml
from client.config import SiteConfig
from shared_model.errors import SmrfedError


def write(folder: Path, text: str) -> Path:
    path = folder / "site.toml"
    path.write_text(text, encoding="utf-8")
    return path


HEAD = """
name = "north"
archive = "archive"
state_dir = "state"
coordinator_key = "coordinator.pub"
policy = "policy.toml"
socket = "run/agent.sock"
device = "auto"
threads = 1
"""
LABELS = """
[labels]
CN = ["CN"]
MCI = ["MCI"]
AD = ["AD"]
"""


def test_the_file_that_init_writes_is_valid_and_paths_are_relative_to_it(tmp_path: Path) -> None:
    config = SiteConfig.load(write(tmp_path, site_toml("north")))
    assert config.name == "north"
    assert config.archive == tmp_path / "archive"
    assert config.state_dir == tmp_path / "state"
    assert config.coordinator_key == tmp_path / "coordinator.pub"
    assert config.policy == tmp_path / "policy.toml"
    assert config.socket == tmp_path / "run" / "agent.sock"
    assert (config.device, config.threads, config.weights_folders) == ("auto", 1, ())
    assert config.label_names == ("CN", "MCI", "AD")


def test_relative_paths_do_not_depend_on_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "site").mkdir()
    write(tmp_path / "site", HEAD + LABELS)
    monkeypatch.chdir(tmp_path)
    config = SiteConfig.load(Path("site/site.toml"))
    assert config.archive == tmp_path / "site" / "archive"


def test_absolute_paths_home_and_weights(tmp_path: Path) -> None:
    text = HEAD.replace('archive = "archive"', 'archive = "/data/bids"')
    text = text.replace('state_dir = "state"', 'state_dir = "~/smrfed"\nweights = "weights"')
    config = SiteConfig.load(write(tmp_path, text + '[labels]\nCN = ["CN"]\n'))
    assert config.archive == Path("/data/bids")
    assert config.state_dir == Path.home() / "smrfed"
    assert config.weights_folders == (tmp_path / "weights",)


def test_the_label_mapping_carries_everything_about_the_tables(tmp_path: Path) -> None:
    text = (
        HEAD.replace("threads = 1", 'threads = 1\nmissing_images = "skip"')
        + '[labels]\nCN = ["CN", "NC"]\nAD = ["AD"]\nexclude = ["SCD", "n/a"]\n'
        + '[columns]\ndiagnosis = "dx"\n'
    )
    mapping = SiteConfig.load(write(tmp_path, text)).label_mapping
    assert mapping.missing_images == "skip"
    assert mapping.columns.diagnosis == "dx"
    assert mapping.indices(("CN", "MCI", "AD")) == {
        "cn": 0, "nc": 0, "ad": 2, "scd": None, "n/a": None,
    }  # fmt: skip


@pytest.mark.parametrize("content", [None, b"name = ", b"name = \xff"])
def test_an_unreadable_file_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "site.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SmrfedError) as caught:
        SiteConfig.load(path)
    assert caught.value.code == "SMR-E201"
    assert str(path) in caught.value.what
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        ('name = "north"', 'name = "North Hospital"', "name"),
        ('archive = "archive"', "", "archive"),
        ('archive = "archive"', 'archive = ""', "archive"),
        ('archive = "archive"', "archive = 3", "archive"),
        ('device = "auto"', 'device = "tpu"', "device"),
        ("threads = 1", "threads = 0", "threads"),
        ("threads = 1", 'threads = 1\nmissing_images = "maybe"', "missing_images"),
        ("threads = 1", "threads = 1\nthread = 2", "thread"),
        ('MCI = ["MCI"]', 'MCI = ["mci", " cn "]', "labels"),
        ('MCI = ["MCI"]', 'MCI = "MCI"', "labels"),
        ('MCI = ["MCI"]', 'exclude = ["cn"]', "labels"),
        ("[labels]", '[columns]\nweight = "kg"\n[labels]', "columns.weight"),
    ],
)
def test_a_field_that_is_not_valid_is_named(tmp_path: Path, old: str, new: str, field: str) -> None:
    text = HEAD + LABELS
    assert old in text
    path = write(tmp_path, text.replace(old, new, 1))
    with pytest.raises(SmrfedError) as caught:
        SiteConfig.load(path)
    assert caught.value.code == "SMR-E202"
    assert str(path) in caught.value.what
    assert field in str(caught.value.found)


def test_a_file_without_labels_names_them(tmp_path: Path) -> None:
    with pytest.raises(SmrfedError, match="labels"):
        SiteConfig.load(write(tmp_path, HEAD))


def test_a_configuration_does_not_change(tmp_path: Path) -> None:
    config = SiteConfig.load(write(tmp_path, HEAD + LABELS))
    with pytest.raises(ValidationError):
        config.name = "south"  # type: ignore[misc]


def test_every_field_is_explained_in_the_documentation() -> None:
    page = (Path(__file__).parents[2] / "docs" / "archive.md").read_text(encoding="utf-8")
    for name in SiteConfig.model_fields:
        assert f"`{name}`" in page or f"`[{name}]`" in page, name


def test_the_template_of_init_sets_only_fields_that_exist() -> None:
    assert set(tomllib.loads(site_toml("north"))) <= set(SiteConfig.model_fields)
