"""Only a bundle on the hospital's list selects the courier; whatever is odd selects the refusal."""

from __future__ import annotations

import hashlib
import inspect
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import flwr.supercore.superexec.run_superexec
import flwr.supernode.runtime.run_clientapp as run_clientapp
import pytest
from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.proto.message_pb2 import PushObjectResponse
from flwr.proto.runtime_pb2 import PushAppMessagesResponse
from flwr.supercore.constant import TaskType
from flwr.supercore.superexec.executor import ExecutionSpec, LaunchResult
from flwr.supercore.superexec.executor.types import Executor
from flwr.supercore.task_identity import TaskIdentity
from hypothesis import given
from hypothesis import strategies as st

from client.courier.allowed import allowed_bundles
from client.courier.flower_names import EXECUTOR, REPLACED, require_names
from client.courier.pinned import PinnedBundle
from client.courier.refused_bundles import FILE_NAME, note_bundle, refused_bundles
from client.courier.superexec import courier_program
from client.enrolment.connection import Connection, ConnectionFolder
from shared_model.errors import SmrfedError
from shared_model.supervision.private_names import missing_names
from shared_model.supervision.task_launcher import TaskLauncher

OURS = b"our bundle"
SHA = hashlib.sha256(OURS).hexdigest()


def connect(folder: Path, *sha256: str) -> Path:
    ConnectionFolder(folder).save(
        Connection(site="north", superlink="a.b:443", coordinator="00", courier_sha256=sha256,
                   protocol_version=1)
    )  # fmt: skip
    return folder


@pytest.fixture
def message(monkeypatch: pytest.MonkeyPatch) -> tuple[Message, Context]:
    for name in ("_run_id", "_node_id", "_task_id"):
        monkeypatch.setattr(TaskIdentity, name, 7)
    content = RecordDict({"c": ConfigRecord({"a": 1})})
    context = Context(run_id=7, node_id=7, node_config={}, state=RecordDict(), run_config={})
    return Message(content, 7, "train"), context


def loaded(pinned: PinnedBundle, bundle: bytes) -> Any:
    """What Flower would call for a bundle, in the order in which it asks."""
    pinned.install_from_fab(bundle, skip_prompt=True)
    pinned.get_project_dir("../../etc/passwd", "1", "x" * 8)
    return pinned.get_load_client_app_fn("", None, multi_app=True)("id", "version", "hash")


def test_an_allowed_bundle_selects_the_installed_courier(tmp_path: Path) -> None:
    pinned = PinnedBundle(connect(tmp_path, SHA))
    assert loaded(pinned, OURS) == pinned.carry_message


def test_a_foreign_bundle_is_answered_with_a_number_and_noted(
    tmp_path: Path, message: tuple[Message, Context], caplog: pytest.LogCaptureFixture
) -> None:
    refuse = loaded(PinnedBundle(connect(tmp_path, SHA)), b"evil")
    answer = refuse(message=message[0], context=message[1])
    (record,) = answer.content.config_records.values()
    assert record["code"] == "SMR-E470"
    (line,) = refused_bundles(tmp_path / FILE_NAME).read()
    assert line.bundle_sha256 == hashlib.sha256(b"evil").hexdigest()
    assert line.bytes == 4
    assert line.bundle_sha256 in caplog.text
    # Told outside: the number alone, no path and no list.
    assert str(tmp_path) not in str(dict(record))


def test_without_a_bundle_nothing_runs(tmp_path: Path) -> None:
    pinned = PinnedBundle(connect(tmp_path, SHA))
    chosen = pinned.get_load_client_app_fn("", None, multi_app=True)("a", "b", "c")
    assert chosen != pinned.carry_message


@pytest.mark.parametrize(
    "text",
    [None, "", "courier_sha256 = 3", f'courier_sha256 = "{SHA}"', f'courier_sha256 = ["{SHA}", 1]',
     f'courier_sha256 = ["{SHA.upper()}"]', 'courier_sha256 = ["*"]', "[[["],
)  # fmt: skip
def test_a_damaged_list_allows_nothing(tmp_path: Path, text: str | None) -> None:
    file = tmp_path / "connection.toml"
    if text is not None:
        file.write_text(text)
    assert allowed_bundles(file) == frozenset()


@given(st.binary(max_size=64))
def test_no_other_bytes_pass(bundle: bytes) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        pinned = PinnedBundle(connect(Path(folder), SHA))
        chosen = loaded(pinned, bundle)
        assert (chosen == pinned.carry_message) == (bundle == OURS)


@pytest.mark.parametrize("breaks", [False, True])
def test_an_answer_is_noted_until_the_supernode_has_all_of_it(
    tmp_path: Path, message: tuple[Message, Context], breaks: bool
) -> None:
    noted: list[int] = []

    class Node:
        def PushMessages(self, request: Any) -> PushAppMessagesResponse:  # noqa: N802
            tree = request.message_object_trees[0]
            wanted = [tree.object_id, *(child.object_id for child in tree.children)]
            return PushAppMessagesResponse(objects_to_push=wanted, session_id="s")

        def PushObject(self, request: Any) -> PushObjectResponse:  # noqa: N802
            noted.append(len(list((tmp_path / "half-sent").iterdir())))
            if breaks:
                raise ConnectionError("the SuperNode is gone")
            return PushObjectResponse(stored=True)

    instruction, context = message
    instruction.metadata.__dict__["_message_id"] = "1"
    reply = Message(RecordDict({"c": ConfigRecord({"a": 1})}), reply_to=instruction)
    pinned = PinnedBundle(connect(tmp_path, SHA))
    if breaks:
        with pytest.raises(ConnectionError):
            pinned.push_message(Node(), reply, context)
    else:
        pinned.push_message(Node(), reply, context)
    assert set(noted) == {1}
    assert len(list((tmp_path / "half-sent").iterdir())) == int(breaks)


def test_a_refusal_stands_also_when_it_cannot_be_noted(
    tmp_path: Path, message: tuple[Message, Context]
) -> None:
    connect(tmp_path, SHA)
    (tmp_path / FILE_NAME).mkdir()
    answer = loaded(PinnedBundle(tmp_path), b"evil")(message[0], message[1])
    assert "SMR-E470" in str(dict(answer.content.config_records["error"]))


def test_a_flood_of_foreign_bundles_does_not_fill_the_disk(tmp_path: Path) -> None:
    file = tmp_path / FILE_NAME
    noted = [note_bundle(file, SHA, "1", 9) for _ in range(60)]
    assert noted == [True] * 50 + [False] * 10
    assert len(refused_bundles(file).read()) == 50


def test_flower_at_the_pinned_version_has_the_names_and_uses_them() -> None:
    require_names(run_clientapp, "run_clientapp", REPLACED)
    require_names(flwr.supercore.superexec.run_superexec, "run_superexec", EXECUTOR)
    # The order in which they are called: what is refused must be known before the app is loaded.
    source = inspect.getsource(run_clientapp.run_clientapp)
    order = ["pull_task_input(", "install_from_fab(", "load_client_app_fn(", "reply_message ="]
    places = [source.index(name) for name in order[:2]] + [source.rindex(order[2])]
    assert places == sorted(places)


def test_every_executor_method_that_flower_calls_is_there() -> None:
    wanted = {n for n in vars(Executor) if not n.startswith("_")}
    assert wanted <= set(dir(TaskLauncher))


def test_a_renamed_or_unused_name_is_missed() -> None:
    module = types.ModuleType("m")
    exec("def helper(x): ...\ndef used(x): ...\ndef entry(): return used(1)", vars(module))
    assert missing_names(module, "entry", {"used": ("x",)}) == ()
    assert missing_names(module, "entry", {"helper": ()}) == ("helper",)
    assert missing_names(module, "entry", {"used": ("y",)}) == ("used(y)",)
    assert missing_names(module, "gone", {"used": ()}) == ("used",)
    with pytest.raises(SmrfedError, match="SMR-E472"):
        require_names(module, "entry", {"helper": ()})


def test_the_token_goes_by_standard_input_and_every_task_gets_the_courier(tmp_path: Path) -> None:
    script = tmp_path / "program.py"
    script.write_text(
        "import sys; from pathlib import Path\n"
        f"Path({str(tmp_path / 'seen')!r}).write_text(sys.stdin.read() + repr(sys.argv))"
    )
    launcher = TaskLauncher(
        [sys.executable, str(script)], LaunchResult.accepted, LaunchResult.failed
    )
    for kind in (TaskType.CLIENT_APP, TaskType.AGENT_APP):
        spec = ExecutionSpec(kind, "127.0.0.1:1", "s3cret", True, None, False, 1, False, 1)
        assert launcher.launch(spec) == LaunchResult.accepted()
        for process in launcher._started:
            process.wait(60)
        token, arguments = (tmp_path / "seen").read_text().split("\n")
        assert token == "s3cret"
        assert "s3cret" not in arguments
        launcher.reconcile()
        assert launcher._started == []
    failing = TaskLauncher(["/no/such"], LaunchResult.accepted, LaunchResult.failed)
    assert failing.launch(spec).status == "failed"


def test_the_courier_imports_no_torch(tmp_path: Path) -> None:
    program = "import sys, client.courier.pinned; print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-P", "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"
    assert courier_program(tmp_path)[1] == "-P"
