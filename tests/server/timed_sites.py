"""Sites that take seconds of a fake clock and do one thing at a time, as a SuperNode does.

A message waits until the site is done with the one before; a site may be offline (a push is
refused), hung (connected, and nothing ever comes), or have a courier that fails each time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

from driver_runs import FakeTime
from toy_federation import Answer, ToyTransport, read

from server.rounds.transport import Failure
from shared_model.errors import SmrfedError
from shared_model.protocol.sealed import Sealed

Health = Literal["well", "offline", "hung", "failing"]
#: (site, seconds since the start, round that was last begun) -> how the site is.
Weather = Callable[[str, float, int], Health]


def well(site: str, elapsed: float, number: int) -> Health:
    return "well"


class TimedSites(ToyTransport):
    def __init__(
        self, fake: FakeTime, pace_s: Mapping[str, float], weather: Weather = well
    ) -> None:
        super().__init__(*pace_s)
        self._fake = fake
        self._start = fake.now
        self.pace_s = pace_s
        self._weather = weather
        self.round = 0
        self._queues: dict[str, list[str]] = {name: [] for name in pace_s}
        self._since: dict[str, float] = {}
        self._expires: dict[str, float] = {}
        self._done: dict[str, Answer] = {}

    def health(self, site: str) -> Health:
        return self._weather(site, self._fake.now - self._start, self.round)

    def push(self, site: str, message: Sealed, time_to_live_s: float) -> str:
        self.round = max(self.round, read(message).round)
        if self.health(site) == "offline":
            raise SmrfedError("SMR-E501", f"site {site!r} is not connected", remedy="wait")
        handle = super().push(site, message, time_to_live_s)
        self._queues[site].append(handle)
        self._expires[handle] = self._fake.now + time_to_live_s
        return handle

    def poll(self, handle: str) -> Answer:
        site = handle.split("/")[0]
        self._work(site)
        answer = self._done.get(handle)
        late = self._fake.now > self._expires[handle]
        return None if late else answer

    def _work(self, site: str) -> None:
        """What the site has finished by now; a site that is not well gets no further."""
        queue, now = self._queues[site], self._fake.now
        health = self.health(site)
        if health in ("offline", "hung"):
            self._since.pop(site, None)
            return
        while queue:
            if health == "failing":
                self._done[queue.pop(0)] = Failure(f"site {site!r}: the courier failed")
                continue
            toy, message = self._waiting[queue[0]]
            if site not in self._since and now > self._expires[queue[0]]:
                queue.pop(0)  # Flower delivers no message that has expired
                continue
            begun = self._since.setdefault(site, now)
            # Asked again, an agent answers from its disk.
            takes = 0.0 if toy.knows(message) else self.pace_s[site]
            if begun + takes > now:
                return
            self._done[queue.pop(0)] = toy.handle(message)
            self._since[site] = begun + takes
        self._since.pop(site, None)
