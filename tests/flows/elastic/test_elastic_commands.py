"""Commands about a cluster, against a live one: set it up, see what it refuses, mend that, send it again."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from collector.cli import NOT_THERE, NOTHING, OK, USAGE, main
from collector.client import CollectorClient

pytestmark = [pytest.mark.flow, pytest.mark.timeout(600)]

STRICT = {"type": "long", "ignore_malformed": False}
ADMIN_TOKEN = "admin"

Ask = Callable[..., tuple[int, dict[str, Any]]]


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("URL", "DATA_DIR", "TOKEN", "STORE", "STORE_API_KEY", "CONFIG"):
        monkeypatch.delenv(f"BACKTRAIL_{name}", raising=False)


@pytest.fixture
def ask(capsys: pytest.CaptureFixture[str]) -> Ask:
    """Runs a command with `--json`; its exit status and its answer, `{"said": …}` when it complains."""

    def run(*arguments: str) -> tuple[int, dict[str, Any]]:
        capsys.readouterr()
        status = main([*arguments, "--json"])
        out, complaint = capsys.readouterr()
        return status, json.loads(out) if out else {"said": complaint}

    return run


class Shop:
    """A collector whose user has given a field a type that some records do not fit."""

    def __init__(self, server: Any, collector: Any, dataset: str, namespace: str) -> None:
        self.server, self.collector, self.namespace = server, collector, namespace
        self.custom = f"/_component_template/logs-{dataset}.otel@custom"
        self.stream = f"logs-{dataset}.otel-{namespace}"
        mapping = {"properties": {"status": {"properties": {"message": STRICT}}}}
        server.request("PUT", self.custom, {"template": {"mappings": mapping}})
        collector.start()

    def mend(self) -> None:
        """What a person does about the cause."""
        self.server.request("DELETE", self.custom)
        self.server.request("POST", f"/{self.stream}/_rollover")

    def take_in(self, *uids: str) -> None:
        """Records of which those named `bad…` do not fit; return when each is stored or refused."""
        with CollectorClient(self.collector.url) as client:
            client.import_records((uid, line(uid)) for uid in uids)


def line(uid: str) -> bytes:
    fields: dict[str, Any] = {"timestamp": "2026-11-24T05:32:11Z", "level": "INFO", "service": "orders"}
    fields |= {"message": f"order {uid}", "resource": {"host.name": "web-1"}}
    if uid.startswith("bad"):
        fields["status"] = {"code": "OK", "message": "no number"}
    return json.dumps(fields).encode()


@pytest.fixture
def shop(server: Any, collector_process: Callable[..., Any]) -> Shop:
    dataset, namespace = f"shop{uuid4().hex}", uuid4().hex
    collector = collector_process(
        store=f"{server.url}?namespace={namespace}&dataset={dataset}&replicas=0",
        commit_interval_s="0.2",
        admin_token=ADMIN_TOKEN,
    )
    return Shop(server, collector, dataset, namespace)


@pytest.fixture
def editor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Call it with Python that changes `text`: that is what $EDITOR does from then on."""

    def use(change: str) -> None:
        program = tmp_path / "editor.py"
        program.write_text(
            "import os, pathlib, sys\nfile = pathlib.Path(sys.argv[1])\ntext = file.read_text()\n"
            f"{change}\nfile.write_text(text)\n"
            "os.utime(file, (2**31, 2**31))\n"  # whether it was saved is seen by the file's time
        )
        monkeypatch.delenv("VISUAL", raising=False)
        monkeypatch.setenv("EDITOR", f"{sys.executable} {program}")

    return use


def letters_of(shop: Shop, ask: Ask, wait_for: Any, number: int) -> list[dict[str, Any]]:
    """The dead letters, as soon as there are so many."""
    wait_for(
        lambda: ask("dead-letters", "list", "--url", shop.collector.url)[1].get("total") == number,
        f"there are never {number} dead letters",
    )
    found: list[dict[str, Any]] = ask("dead-letters", "list", "--url", shop.collector.url)[1]["dead_letters"]
    return found


def test_what_is_refused_is_shown_and_stored_once_after_its_cause_is_mended(
    shop: Shop, ask: Ask, wait_for: Any, stored_uids: Any
) -> None:
    """Alike from the collector and from its data directory, which needs neither it nor the cluster."""
    shop.take_in("good-1", "bad-1", "bad-2", "good-2")
    there, here = ("--url", shop.collector.url), ("--data-dir", str(shop.collector.data_dir))
    letters = letters_of(shop, ask, wait_for, 2)
    assert [one["uid"] for one in letters] == ["bad-1", "bad-2"]
    assert (letters[0]["reason"], letters[0]["field"]) == ("document_parsing_exception", "status.message")
    assert letters[0]["record"]["message"] == "order bad-1"
    assert ask("dead-letters", "list", *there) == ask("dead-letters", "list", *here)
    status, letter = ask("dead-letters", "show", "bad-1", *there)
    assert (status, letter) == ask("dead-letters", "show", "bad-1", *here)
    assert json.loads(letter["document"])["status.message"] == "no number"
    first = ask("dead-letters", "list", "--limit", "1", *there)[1]
    assert ask("dead-letters", "list", "--cursor", first["cursor"], *there)[1]["dead_letters"] == letters[1:]

    status, answer = ask("dead-letters", "replay", "--all", *there)
    assert (status, answer["stored"], answer["left"]) == (NOTHING, 0, 2)
    assert {one["uid"] for one in answer["refused"]} == {"bad-1", "bad-2"}
    shop.mend()
    status, answer = ask("dead-letters", "replay", "bad-2", *there)
    assert (status, answer) == (OK, {"stored": 1, "already_stored": 0, "refused": [], "left": 1})
    assert ask("dead-letters", "replay", "bad-2", *there)[0] == NOTHING
    assert ask("dead-letters", "replay", "--all", *there)[0] == OK
    assert ask("dead-letters", "list", *there)[0] == NOTHING
    assert stored_uids(shop.server, shop.namespace) == Counter({"good-1", "good-2", "bad-1", "bad-2"})
    with CollectorClient(shop.collector.url) as client:
        (found,) = client.logs('"order bad-1"')["records"]
        assert found["resource"] == {"host.name": "web-1"}


def test_a_record_is_mended_in_an_editor(
    shop: Shop, ask: Ask, wait_for: Any, stored_uids: Any, editor: Callable[[str], None]
) -> None:
    """What is saved is sent; what is left as it was, or is no JSON, stays where it is."""
    shop.take_in("bad-1", "bad-2")
    letters_of(shop, ask, wait_for, 2)
    replay = ("dead-letters", "replay", "--edit", "--url", shop.collector.url)
    editor("sys.exit(0)")
    assert "no record was changed" in ask(*replay, "--all")[1]["said"]
    editor("text = '{'")
    assert "no JSON" in ask(*replay, "bad-1")[1]["said"]
    editor("text = text.replace('2026', 'someday')")
    assert "someday" in ask(*replay, "bad-1")[1]["said"]
    assert len(letters_of(shop, ask, wait_for, 2)) == 2
    editor("text = text.replace('no number', '7').replace('\"uid\": \"bad-1\"', '\"uid\": \"other\"')")
    status, answer = ask(*replay, "bad-1")
    assert (status, answer["stored"], answer["left"]) == (OK, 1, 1)
    with CollectorClient(shop.collector.url) as client:
        (found,) = client.logs('"order bad-1"')["records"]
    assert (found["uid"], found["status"]["message"]) == ("bad-1", "7")
    assert stored_uids(shop.server, shop.namespace) == Counter({"bad-1"})


def test_dropping_is_for_who_may_delete(
    shop: Shop, ask: Ask, wait_for: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the admin token only, and counted."""
    shop.take_in("bad-1", "bad-2")
    letters_of(shop, ask, wait_for, 2)
    drop = ("dead-letters", "drop", "bad-1", "--yes", "--url", shop.collector.url)
    monkeypatch.delenv("BACKTRAIL_ADMIN_TOKEN", raising=False)
    assert "token for admin" in ask(*drop)[1]["said"]
    monkeypatch.setenv("BACKTRAIL_ADMIN_TOKEN", ADMIN_TOKEN)
    assert ask(*drop) == (OK, {"dropped": 1, "left": 1})
    status, answer = ask(*drop)
    assert (status, "no dead letter for record 'bad-1'" in answer["said"]) == (NOTHING, True)
    assert [one["uid"] for one in letters_of(shop, ask, wait_for, 1)] == ["bad-2"]


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (("dead-letters", "replay"), USAGE, "--all"),
        (("dead-letters", "replay", "x", "--all"), USAGE, "--all"),
        (("dead-letters", "list", "--url", "http://127.0.0.1:1"), NOT_THERE, "nobody listens there"),
        (("dead-letters", "list", "--data-dir", "/nonexistent"), NOT_THERE, "no such directory"),
        (("elastic", "plan"), USAGE, "--store https://host:9200"),
        (("elastic", "plan", "--store", "http://127.0.0.1:1"), NOT_THERE, "cannot be reached"),
        (("elastic", "check", "--store", "https://host?namespce=x"), USAGE, "namespce"),
        (("elastic", "apply", "--store", "embeded"), USAGE, "URL of an Elasticsearch cluster"),
    ],
)
def test_what_is_wrong_is_said(ask: Ask, arguments: tuple[str, ...], status: int, said: str) -> None:
    """With what to do, and a documented exit status."""
    found, answer = ask(*arguments)
    assert (found, said in answer["said"]) == (status, True), answer


def test_planned_made_and_checked(
    server: Any, ask: Ask, collector_process: Callable[..., Any], wait_for: Any
) -> None:
    """Nothing is made by planning, nothing is made twice, and what was bent by hand is seen."""
    dataset, namespace = f"plan{uuid4().hex}", uuid4().hex
    url = f"{server.url}?dataset={dataset}&namespace={namespace}&replicas=0"
    for _ in range(2):
        status, answer = ask("elastic", "plan", "--store", url)
        assert (status, {step["action"] for step in answer["steps"]}) == (NOTHING, {"create"})
    status, answer = ask("elastic", "apply", "--store", url)
    assert (status, answer["applied"], answer["version"]) == (OK, 6, "9.4")
    status, answer = ask("elastic", "plan", "--store", url)
    assert (status, {step["action"] for step in answer["steps"]}) == (OK, {"keep"})
    assert ask("elastic", "apply", "--store", url)[1]["applied"] == 0

    collector = collector_process(store=url, commit_interval_s="0.2")
    collector.start()
    with CollectorClient(collector.url) as client:
        client.import_records([("one", line("one"))])
        wait_for(lambda: client.stats()["records"] == 1, "nothing is stored")
    assert ask("elastic", "check", "--store", url)[0] == OK
    late = ask("elastic", "check", "--store", f"{url}&rollover_age_s=0")
    assert (late[0], "not rolled over" in late[1]["findings"][0]["message"]) == (NOTHING, True)
    wrong = {"template": {"mappings": {"properties": {"name": {"type": "text"}}}}}
    server.request("PUT", f"/_component_template/logs-{dataset}.otel@custom", wrong)
    server.request("POST", f"/logs-{dataset}.otel-{namespace}/_rollover")
    status, answer = ask("elastic", "check", "--store", url)
    (finding,) = (one for one in answer["findings"] if one["harmful"])
    assert (status, "properties.name.type is 'text'" in finding["message"]) == (NOTHING, True)


def test_every_answer_can_be_drawn(
    shop: Shop, ask: Ask, wait_for: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """As plain text when nobody looks."""
    shop.take_in("bad-1")
    letters_of(shop, ask, wait_for, 1)
    there, store = ("--url", shop.collector.url), ("--store", shop.server.url)
    for command, said in (
        (("dead-letters", "list", *there), "document_parsing_exception"),
        (("dead-letters", "show", "bad-1", *there), "failed to parse field [status.message]"),
        (("dead-letters", "replay", "--all", *there), "refused again"),
        (("elastic", "plan", *store), "index template logs-backtrail.otel@backtrail"),
        (("elastic", "check", *store), "Elasticsearch 9.4"),
    ):
        capsys.readouterr()
        main([*command])
        text = capsys.readouterr().out
        assert said in text
        assert "\x1b" not in text
