"""What a fault is, and those that end, stop or multiply processes, and spoil the network and the clock."""

from __future__ import annotations

import random
import signal
import time
from typing import ClassVar, Final

from tests.chaos.proxy import Weather
from tests.chaos.scene import Program, Scene
from tests.chaos.tampering import Clock

COLLECTOR: Final = "collector"
APPLICATION: Final = "application"
AGENT: Final = "agent"
NETWORK: Final = "network"
STORE: Final = "store"


class Fault:
    """Something that goes wrong for a while. Made for one time only.

    Attributes:
        target: what it happens to; the same target suffers one fault at a time.
        lasts_s: shortest and longest time between `begin` and `end`.
        rest_s: time in which nothing else may befall the target afterwards, where it needs to recover first.
    """

    target: ClassVar[str]
    lasts_s: ClassVar[tuple[float, float]] = (0.0, 0.0)
    rest_s: ClassVar[float] = 0.0

    def __init__(self, scene: Scene, chance: random.Random) -> None:
        self.scene = scene
        self.chance = chance

    @classmethod
    def name(cls) -> str:
        """As it is printed."""
        return cls.__name__

    def missing(self) -> str | None:
        """What this machine lacks for it; `None`: nothing."""
        return None

    def begin(self) -> None:
        """Let it happen."""

    def end(self) -> None:
        """Let it be over."""


# ---------------------------------------------------------------- the collector


class KillCollector(Fault):
    """SIGKILL, and away for some seconds."""

    target = COLLECTOR
    lasts_s = (0.0, 4.0)

    def begin(self) -> None:
        """Kill it."""
        self.scene.collector.kill()

    def end(self) -> None:
        """It comes back."""
        self.scene.collector.start()


class KillStartingCollector(Fault):
    """SIGKILL, and once more while it recovers from that."""

    target = COLLECTOR

    def begin(self) -> None:
        """Kill it twice."""
        collector = self.scene.collector
        collector.kill()
        collector.start(wait=False)
        time.sleep(self.chance.uniform(0.0, 2.0))
        collector.kill()

    def end(self) -> None:
        """It comes back."""
        self.scene.collector.start()


class FreezeCollector(Fault):
    """SIGSTOP: connections stay open, nothing is answered."""

    target = COLLECTOR
    lasts_s = (2.0, 15.0)

    def begin(self) -> None:
        """Stop it."""
        self.scene.collector.suspend()

    def end(self) -> None:
        """It goes on."""
        self.scene.collector.resume()


class TurnCollectorClock(Fault):
    """The time of day is an hour off, and right again later."""

    target = COLLECTOR
    lasts_s = (4.0, 12.0)

    def missing(self) -> str | None:
        """A preload library."""
        return None if Clock.is_available else "libfaketime"

    def begin(self) -> None:
        """An hour forward or back."""
        self.scene.collector.clock.jump(self.chance.choice((-1, 1)))

    def end(self) -> None:
        """Right again."""
        self.scene.collector.clock.set_back()


# ---------------------------------------------------------------- a store of another process


class _StoreFault(Fault):
    target = STORE
    lasts_s = (5.0, 30.0)

    def missing(self) -> str | None:
        """A store that is not the collector's own."""
        return "--elasticsearch" if self.scene.is_embedded else None


class KillStore(_StoreFault):
    """SIGKILL in the middle of a bulk, and away for a while."""

    def begin(self) -> None:
        """Kill it."""
        assert self.scene.server is not None
        self.scene.server.kill()

    def end(self) -> None:
        """It comes back."""
        assert self.scene.server is not None
        self.scene.server.start()


class FreezeStore(_StoreFault):
    """SIGSTOP: what was sent to it may be stored or not."""

    def begin(self) -> None:
        """Stop it."""
        assert self.scene.server is not None
        self.scene.server.suspend()

    def end(self) -> None:
        """It goes on."""
        assert self.scene.server is not None
        self.scene.server.resume()


# ---------------------------------------------------------------- the network


class _Weather(Fault):
    target = NETWORK
    lasts_s = (1.0, 8.0)
    weather: ClassVar[Weather]

    def begin(self) -> None:
        """It begins."""
        self.scene.proxy.change(self.weather)

    def end(self) -> None:
        """Fine again."""
        self.scene.proxy.change(Weather.FINE)


class SlowNetwork(_Weather):
    """20 KB/s."""

    weather = Weather.SLOW


class HalfOpenConnections(_Weather):
    """Taken, and never answered."""

    weather = Weather.HALF_OPEN


class ResetConnections(_Weather):
    """RST in the middle of a body."""

    weather = Weather.RESETS


class LoseAnswers(_Weather):
    """What was acknowledged is sent again."""

    weather = Weather.LOST_ANSWERS


class UnreachableCollector(_Weather):
    """Connections are refused: spools with small bounds overflow."""

    weather = Weather.UNREACHABLE
    lasts_s = (2.0, 20.0)


# ---------------------------------------------------------------- applications


class _ApplicationFault(Fault):
    target = APPLICATION

    def __init__(self, scene: Scene, chance: random.Random) -> None:
        super().__init__(scene, chance)
        self.application: Program = chance.choice(scene.applications)


class KillApplication(_ApplicationFault):
    """SIGKILL; its next life begins while others ship what it left."""

    lasts_s = (0.0, 3.0)

    def begin(self) -> None:
        """Kill it."""
        self.application.kill()

    def end(self) -> None:
        """A new process of the same service."""
        self.scene.restart(self.application)


class ForkStorm(Fault):
    """A hundred children that log and end, some killed, while three threads of the parent log on."""

    target = APPLICATION
    lasts_s = (1.0, 3.0)

    def begin(self) -> None:
        """Of the application that nothing is preloaded into."""
        self.scene.applications[0].send_signal(signal.SIGUSR1)

    def end(self) -> None:
        """All of them are gone."""
        self.scene.wait_for_forks()


class TurnApplicationClock(Fault):
    """The time of day is an hour off."""

    target = APPLICATION
    lasts_s = (4.0, 12.0)

    def __init__(self, scene: Scene, chance: random.Random) -> None:
        super().__init__(scene, chance)
        self.application: Program = chance.choice(scene.applications[1:])

    def missing(self) -> str | None:
        """A preload library."""
        return None if Clock.is_available else "libfaketime"

    def begin(self) -> None:
        """An hour forward or back."""
        self.application.clock.jump(self.chance.choice((-1, 1)))

    def end(self) -> None:
        """Right again."""
        self.application.clock.set_back()


# ---------------------------------------------------------------- agents


class KillAgent(Fault):
    """SIGKILL between or in the middle of its requests."""

    target = AGENT
    lasts_s = (0.0, 4.0)

    def begin(self) -> None:
        """Kill it."""
        self.scene.agents[0].kill()

    def end(self) -> None:
        """Another one."""
        self.scene.agents[0].start()


class TwoAgents(Fault):
    """A second agent wants the same spools; then the first is killed in the middle of its work."""

    target = AGENT
    lasts_s = (2.0, 8.0)

    def begin(self) -> None:
        """The second one starts."""
        self.scene.agents[1].start()

    def end(self) -> None:
        """The second one stays for a moment alone, then the first one is back."""
        first, second = self.scene.agents
        first.kill()
        first.start()
        second.stop()
