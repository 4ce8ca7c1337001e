"""Backup and restore: of a moment, beside a running collector, checked, and never over anything."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from collector.cli import NOT_THERE, OK, USAGE, main
from collector.client import CollectorClient
from collector.errors import ConfigurationError, Damaged
from collector.service import Collector, open_local
from collector.service import backup as backups
from collector.service.backup import MANIFEST, back_up, read_manifest, restore
from collector.settings import Settings
from collector.trace.build import build_trace
from collector.watch import DIRECTORY as BASELINE
from collector.watch import KeptBaseline

PATIENCE_S = 60.0


def records(start: int, end: int) -> list[tuple[str, bytes]]:
    """Identities and lines."""
    line = {"level": "INFO", "service": "orders"}
    return [
        (
            f"u-{n}",
            json.dumps({"timestamp": f"2026-11-24T05:32:11.{n:09}Z", **line, "message": f"m {n}"}).encode(),
        )
        for n in range(start, end)
    ]


def stored(data_dir: Path) -> Counter[str]:
    """How often each identity is stored, once what the log still held is, too."""
    with open_local(data_dir, write=False) as local:
        pieces = local.answers.export("ndjson")
        return Counter(json.loads(line)["uid"] for line in b"".join(pieces).splitlines())


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A backup of 50 records."""
    with open_local(tmp_path / "data", write=True) as local:
        local.import_records(records(0, 50))
    back_up(tmp_path / "data", tmp_path / "backup")
    return tmp_path / "backup"


def test_what_was_acknowledged_is_in_a_backup_beside_a_running_collector(tmp_path: Path) -> None:
    """Nothing is missing, nothing is twice, and what is sent again later is known."""
    settings = Settings(data_dir=tmp_path / "data", port=0)
    acknowledged = 0
    enough, stop = threading.Event(), threading.Event()

    def send(url: str) -> None:
        nonlocal acknowledged
        with CollectorClient(url) as client:
            while not stop.is_set():
                client.import_records(records(acknowledged, acknowledged + 100))
                acknowledged += 100
                if acknowledged >= 2_000:
                    enough.set()

    with Collector(settings) as running:
        sender = threading.Thread(target=send, args=(running.url,))
        sender.start()
        try:
            assert enough.wait(PATIENCE_S)
            moments = []
            for number in range(3):
                moments.append((tmp_path / f"backup-{number}", acknowledged))
                back_up(tmp_path / "data", moments[-1][0])
        finally:
            stop.set()
            sender.join()
    for backup, count in moments:
        data_dir = tmp_path / f"restored-{backup.name}"
        restore(backup, data_dir)
        found = stored(data_dir)
        assert {f"u-{n}" for n in range(count)} <= set(found)
        assert set(found.values()) == {1}
        with open_local(data_dir, write=True) as local:
            answer = local.import_records(records(0, acknowledged))
        assert answer["already_stored"] == len(found)
        assert stored(data_dir) == Counter(f"u-{n}" for n in range(acknowledged))


def test_a_backup_that_the_log_ran_away_from_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the newest segment of the first copy is gone, the two copies of the log leave a hole."""
    with open_local(tmp_path / "data", write=True) as local:
        local.import_records(records(0, 50))
    copy_store: Callable[[Path, Path], None] = backups._copy_store
    attempts = 0

    def slow(source: Path, target: Path) -> None:
        nonlocal attempts
        attempts += 1
        copy_store(source, target)
        if attempts == 1:
            with open_local(tmp_path / "data", write=True) as local:
                local.import_records(records(50, 60))
            newest, *_ = sorted((tmp_path / "data" / "wal").glob("*.wal"), reverse=True)
            newest.rename(newest.with_name(f"{60 + 1:020}.wal"))

    monkeypatch.setattr(backups, "_copy_store", slow)
    back_up(tmp_path / "data", tmp_path / "backup")
    assert attempts == 2


def test_a_backup_does_not_change_any_more(made: Path, tmp_path: Path) -> None:
    """Neither does what comes later reach it, nor what is done to what was restored of it."""
    with open_local(tmp_path / "data", write=True) as local:
        local.import_records(records(50, 90))
        local.delete("", service="orders")
    restore(made, tmp_path / "one")
    assert len(stored(tmp_path / "one")) == 50
    with open_local(tmp_path / "one", write=True) as local:
        local.delete("", service="orders")
    restore(made, tmp_path / "two")
    assert len(stored(tmp_path / "two")) == 50


def test_nothing_is_overwritten(made: Path, tmp_path: Path) -> None:
    """A directory with anything in it is neither backed up to nor restored to."""
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ConfigurationError, match="not an empty directory"):
        restore(made, tmp_path / "data")
    with pytest.raises(ConfigurationError, match="not an empty directory"):
        back_up(tmp_path / "data", made)
    assert sorted(tmp_path.rglob("*")) == before


def flip(made: Path) -> None:
    """One bit of the largest file."""
    file = max(
        (path for path in (made / "data").rglob("*") if path.is_file()), key=lambda p: p.stat().st_size
    )
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.unlink()  # it may be linked to the store's own
    file.write_bytes(content)


def change(**said: Any) -> Callable[[Path], None]:
    """Something else in the manifest."""

    def apply(made: Path) -> None:
        manifest = json.loads((made / MANIFEST).read_bytes())
        (made / MANIFEST).write_text(json.dumps({**manifest, **said}))

    return apply


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (flip, "not what was written"),
        (lambda made: (made / MANIFEST).unlink(), "no backup.json"),
        (lambda made: (made / MANIFEST).write_text("{"), "not what `backtrail backup` writes"),
        (lambda made: (made / "data" / "format.json").unlink(), "missing"),
        (change(backtrail_backup=2), "newer version"),
        (change(data_format=99), "newer version"),
        (change(files={"../../evil": [0, 0], "format.json": [0, 0]}), "evil"),
        (change(files={}), "format.json"),
    ],
)
def test_a_damaged_backup_is_not_restored(
    damage: Callable[[Path], None], said: str, made: Path, tmp_path: Path
) -> None:
    """It is said what is wrong, and nothing is left behind."""
    damage(made)
    with pytest.raises(Damaged, match=said):
        restore(made, tmp_path / "restored")
    left = tmp_path / "restored"
    assert not left.exists() or not list(left.iterdir())


def test_records_in_a_cluster_are_not_ours_to_back_up(made: Path, tmp_path: Path) -> None:
    """The answer says whose they are."""
    (tmp_path / "data" / "store" / "elastic.json").write_text("{}")
    with pytest.raises(ConfigurationError, match="snapshots"):
        back_up(tmp_path / "data", tmp_path / "other")


def test_what_was_learned_comes_along(tmp_path: Path) -> None:
    """A collector that starts from the copy knows what is normal at once."""
    with open_local(tmp_path / "data", write=True) as local:
        local.import_records(records(0, 5))
    kept = KeptBaseline(tmp_path / "data" / BASELINE)
    kept.learn([build_trace("5f" * 16, [])], end_ns=60)
    kept.pass_over(60)
    kept.save()
    back_up(tmp_path / "data", tmp_path / "backup")
    restore(tmp_path / "backup", tmp_path / "again")
    again = KeptBaseline(tmp_path / "again" / BASELINE)
    assert (again.minutes, again.learned_to_ns, again.steady.profile.traces) == (1, 60, 1)


def test_the_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """From argument to exit status."""
    data_dir, backup, again = (str(tmp_path / name) for name in ("data", "backup", "again"))
    assert main(["backup", backup, "--data-dir", data_dir]) == NOT_THERE
    with open_local(tmp_path / "data", write=True) as local:
        local.import_records(records(0, 5))
    assert main(["backup", backup, "--data-dir", data_dir]) == OK
    assert main(["restore", backup, "--data-dir", data_dir]) == USAGE
    assert main(["restore", backup, "--data-dir", again]) == OK
    assert read_manifest(Path(backup)).made in capsys.readouterr().out
    assert len(stored(tmp_path / "again")) == 5
