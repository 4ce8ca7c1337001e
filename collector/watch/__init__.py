"""Every minute: is it as usual? What is not becomes an event in the store; what is, becomes the measure."""

from collector.watch.events import FindingEvent, event_line, event_of, findings_condition
from collector.watch.kept import DIRECTORY, FILES, KeptBaseline, known_baseline, read_baseline, write_whole
from collector.watch.measures import GivenMeasure, KeptMeasures, Measures
from collector.watch.minute import learn_from
from collector.watch.watching import Watch

__all__ = [
    "DIRECTORY",
    "FILES",
    "FindingEvent",
    "GivenMeasure",
    "KeptBaseline",
    "KeptMeasures",
    "Measures",
    "Watch",
    "event_line",
    "event_of",
    "findings_condition",
    "known_baseline",
    "learn_from",
    "read_baseline",
    "write_whole",
]
