"""How rates and templates are drawn."""

from __future__ import annotations

from collector.cli_trend_lines import bars, rate_lines, template_lines


def test_bars_show_the_least_and_the_most() -> None:
    """The most is a full bar, one is a small one, nothing is blank."""
    assert bars([0, 1, 50, 100], 100) == " ▁▄█"
    assert bars([], 0) == ""
    assert bars([0], 0) == " "


def test_rates_are_a_line_a_step() -> None:
    """Steps without anything too; their durations are a dash."""
    nothing = {"spans": 0, "logs": 0, "errors": 0, "duration_p50_ns": None, "duration_p95_ns": None}
    some = {"spans": 1200, "logs": 3, "errors": 2, "duration_p50_ns": 5_000_000, "duration_p95_ns": 9_000_000}
    answer = {
        "start": "2026-11-24T05:30:12.000000000Z",
        "end": "2026-11-24T05:32:00.000000000Z",
        "step_ns": 60_000_000_000,
        "steps": [
            {"start": "2026-11-24T05:30:00.000000000Z", **some},
            {"start": "2026-11-24T05:31:00.000000000Z", **nothing},
        ],
    }
    title, head, first, second = [line.plain.split() for line in rate_lines(answer)]
    assert " ".join(title) == "2026-11-24, steps of 1 min"
    assert head == ["UTC", "spans", "logs", "errors", "median", "95", "%"]
    assert (first[0], first[-6:]) == ("05:30", ["3", "2", "5.00", "ms", "9.00", "ms"])
    assert second == ["05:31", "0", "0", "0", "–", "–"]


def test_steps_without_anything_are_one_line() -> None:
    """An hour with one busy minute is three lines, not sixty."""
    nothing = {"spans": 0, "logs": 0, "errors": 0, "duration_p50_ns": None, "duration_p95_ns": None}
    steps = [{"start": f"2026-11-24T05:{minute:02d}:00.000000000Z", **nothing} for minute in range(60)]
    steps[40]["logs"] = 7
    answer = {"start": steps[0]["start"], "end": "", "step_ns": 60_000_000_000, "steps": steps}
    lines = [line.plain.split() for line in rate_lines(answer)][2:]
    assert [line[:3] for line in lines] == [
        ["05:00–05:39", "0", "0"],
        ["05:40", "0", "7"],
        ["05:41–05:59", "0", "0"],
    ]


def test_a_template_cannot_write_escapes() -> None:
    """What logs say comes from anywhere."""
    one = {
        "template_id": "0" * 16,
        "text": "paid\x1b[31m <num>",
        "logger": None,
        "services": ["pay", "orders"],
        "level": "INFO",
        "count": 12,
        "trend": [0, 12],
    }
    _, line = template_lines({"templates": [one]})
    assert "\x1b" not in line.plain
    assert line.plain.split()[:5] == ["12", "█", "INFO", "pay", "+1"]
