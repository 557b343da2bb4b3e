"""TensorBoard event files: scalars by round, the plan as text. Neither TensorFlow nor torch."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from server.tracking.story import Story
from server.tracking.trackers import Tracker, cannot_write

# The package is an option and has no types; an ImportError here is told as SMR-E708.
_PROTO = "tensorboard.compat.proto"
Event: Any = import_module(f"{_PROTO}.event_pb2").Event
Summary: Any = import_module(f"{_PROTO}.summary_pb2").Summary
SummaryMetadata: Any = import_module(f"{_PROTO}.summary_pb2").SummaryMetadata
TensorProto: Any = import_module(f"{_PROTO}.tensor_pb2").TensorProto
TensorShapeProto: Any = import_module(f"{_PROTO}.tensor_shape_pb2").TensorShapeProto
DT_STRING: Any = import_module(f"{_PROTO}.types_pb2").DT_STRING
EventFileWriter: Any = import_module("tensorboard.summary.writer.event_file_writer").EventFileWriter

_SUFFIX = ".smrfed"


class _Writer:
    """One folder per run below ``where``; what an earlier call wrote there is written anew."""

    def __init__(self, where: Path) -> None:
        self._where = where
        self._writers: dict[str, Any] = {}
        self._written: dict[str, int] = {}

    def tell(self, story: Story) -> int:
        """Add the scalars that are new."""
        try:
            writer = self._writer(story)
            new = story.points[self._written[story.run] :]
            for point in new:
                value = Summary.Value(tag=point.name, simple_value=point.value)
                writer.add_event(
                    Event(wall_time=point.time_s, step=point.step, summary=Summary(value=[value]))
                )
            writer.flush()
        except OSError as error:
            raise cannot_write("tensorboard", error) from None
        self._written[story.run] = len(story.points)
        return len(new)

    def close(self) -> None:
        """Flush and close all files."""
        for writer in self._writers.values():
            writer.close()

    def _writer(self, story: Story) -> Any:
        if story.run not in self._writers:
            folder = self._where / story.run
            folder.mkdir(parents=True, exist_ok=True)
            for stale in folder.glob(f"events.out.tfevents.*{_SUFFIX}"):
                stale.unlink()
            writer = EventFileWriter(str(folder), filename_suffix=_SUFFIX)
            start = min((point.time_s for point in story.points), default=0.0)
            facts = "\n".join(f"| {name} | {value} |" for name, value in story.facts.items())
            texts = {"run": f"| | |\n| --- | --- |\n{facts}"}
            for name, text in story.texts.items():
                texts[name] = f"```json\n{_indented(text)}\n```"
            for name, text in texts.items():
                writer.add_event(_text(name, text, start))
            self._writers[story.run] = writer
            self._written[story.run] = 0
        return self._writers[story.run]


@contextmanager
def tensorboard_tracker(where: str) -> Iterator[Tracker]:
    """A tracker that writes below the folder ``where``; raises SMR-E709 when it cannot."""
    writer = _Writer(Path(where))
    try:
        yield writer
    finally:
        writer.close()


def _indented(text: str) -> str:
    try:
        return json.dumps(json.loads(text), indent=1)
    except ValueError:
        return text


def _text(name: str, text: str, at: float) -> Any:
    plugin = SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name="text"))
    tensor = TensorProto(
        dtype=DT_STRING,
        string_val=[text.encode()],
        tensor_shape=TensorShapeProto(dim=[TensorShapeProto.Dim(size=1)]),
    )
    value = Summary.Value(tag=name, metadata=plugin, tensor=tensor)
    return Event(wall_time=at, step=0, summary=Summary(value=[value]))
