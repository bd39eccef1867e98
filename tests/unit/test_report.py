import json
import shutil
import subprocess
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from ledger import audit as commands
from ledger.audit.page import page
from ledger.encoding import canonical, sha256_text
from ledger.errors import ReportError, SignatureError, StatementError
from ledger.export import Extras
from ledger.finding import Finding
from ledger.keys import SigningKey, VerifyKey
from ledger.mirror import Mirror
from ledger.monitor import Monitor
from ledger.report import open_report, payload_of, sign
from ledger.report_checks import CHECKS, table
from ledger.source import FolderSource
from ledger.standing import with_result
from ledger.statements import KINDS, Line
from ledger.subject import of_export, of_state
from ledger.trust import Policy
from ledger.use_index import write_tag_keys
from ledger.verify import audit
from tests.drafts import key_of, tag_key_of
from tests.forgery import write_files
from tests.world import World

AUDITOR = key_of("auditor.example")
EVIL = "<script>alert('1')</script>\u202e&\"x"


@pytest.fixture(scope="module", name="world")
def _world(tmp_path_factory: pytest.TempPathFactory) -> World:
    world = World.with_every_kind(tmp_path_factory.mktemp("world"), 2)
    world.export(world.folder / "export")
    return world


@pytest.fixture(scope="module", name="broken")
def _broken(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Epochs that nobody closed, a wrong price, sealed entries, hostile names."""
    world = World(tmp_path_factory.mktemp("broken"), 2)
    world.put(world.schedule())
    world.put(replace(world.asset(world.providers[0]), name=EVIL.replace("\u202e", "")))
    job, _, receipts = world.receipted_job(name=EVIL.replace("\u202e", ""))
    release = world.put(world.release(job, receipts))
    lines = tuple(Line(p.agreement, p.id, 2_000, 100, 1_900) for p in world.providers)
    world.insecure_put(world.settlement(job, release, lines=lines))
    for _ in range(40):
        world.put(world.job())
    world.export(world.folder / "export", opened=[i for i in range(world.log.size) if i != 30])
    return world


def report_on(world: World, **changes: Any) -> dict[str, Any]:
    subject = of_export(world.folder / "export", Policy.of(world.log.vkey))
    return payload_of(replace(subject, **changes), auditor=AUDITOR.verify_key, made=1)


def test_the_counts_are_those_of_the_verdict(world: World):
    verdict = audit(world.folder / "export", world.log.vkey).verdict
    report = report_on(world)
    assert report["verdict"]["status"] == verdict.status == "sound"
    assert {name: report["checked"][name] for name in verdict.checked} == verdict.checked
    rows = {row["check"]: row for row in report["checks"]}
    assert rows["signatures"]["checked"] == verdict.checked["signatures"]
    assert rows["chain"]["checked"] == verdict.size
    for kind in KINDS:
        assert rows[f"rules:{kind}"]["checked"] == verdict.checked[kind]
    shown = Counter({row["kind"]: row["entries"] for row in report["disclosure"]})
    assert shown == Counter(entry.kind for entry in world.entries())
    assert all(row["findings"] == row["missing"] == 0 for row in rows.values())
    assert report["money"]["totals"]["billed_cents"] == verdict.checked["settled_cents"]
    assert report["money"]["balance_cents"] == 0
    assert [item["count"] for item in report["erasures"]] == [1]


def test_every_finding_is_in_the_report_and_in_its_row(broken: World):
    report = report_on(broken)
    found = Counter(item["code"] for item in report["findings"])
    assert report["verdict"]["status"] == "tampered"
    assert {"wrong_price", "missing_close", "missing_index"} <= set(found)
    assert sum(row["findings"] for row in report["checks"]) == found.total()
    assert sum(row["missing"] for row in report["checks"]) == len(report["missing"])
    prices = next(item for item in report["findings"] if item["code"] == "wrong_price")
    assert prices["severity"] == "serious"
    assert prices["entries"]
    rows = {row["check"]: row for row in report["checks"]}
    assert rows["rules:settlement"]["findings"] == 1
    assert rows["closes"]["findings"] == found["missing_close"]
    assert rows["journals"]["not_made"] == "needs journals from the nodes"
    assert report["epochs"]["assets"][0]["missing_count"] > 0
    assert sum(row["closed"] for row in report["disclosure"]) == 1


def test_a_check_has_its_codes_alone():
    claimed = Counter(code for check in CHECKS for code in check.codes)
    assert max(claimed.values()) == 1
    rows = list(table({}, [Finding("x", "nowhere", "y")], [], lambda _: None))
    assert rows[-1]["check"] == "other"
    assert sum(row["not_made"] is not None for row in rows) == len(rows) - 1


def test_the_same_evidence_gives_the_same_report(world: World, broken: World):
    for each in (world, broken):
        assert canonical(report_on(each)) == canonical(report_on(each))


def test_a_monitor_reports_what_the_verifier_does(tmp_path: Path, world: World, broken: World):
    for number, each in enumerate((world, broken)):
        policy = Policy.of(each.log.vkey)
        with Mirror(tmp_path / str(number)) as mirror:
            source = FolderSource(each.folder / "export", policy)
            Monitor(mirror, policy).look(source)
            source.close()
        with Mirror(tmp_path / str(number)) as mirror:
            state = payload_of(of_state(mirror, policy), auditor=AUDITOR.verify_key, made=1)
        export = report_on(each)
        for name in ("money", "epochs", "log", "period", "participants", "key_changes"):
            assert state[name] == export[name]
        keys = [(item["code"], item["where"], item["entries"]) for item in export["findings"]]
        assert [(i["code"], i["where"], i["entries"]) for i in state["findings"]] == keys
        assert state["verdict"]["status"] == export["verdict"]["status"]


def test_a_report_is_its_auditors(world: World):
    payload = report_on(world)
    data = sign(payload, AUDITOR)
    assert open_report(data, AUDITOR.verify_key) == payload
    with pytest.raises(SignatureError):
        open_report(data, key_of("other.example").verify_key)
    with pytest.raises(StatementError, match="newline"):
        open_report(data[:-1], AUDITOR.verify_key)
    with pytest.raises(ReportError, match="at most"):
        sign(payload | {"more": ["x" * 4000] * 300}, AUDITOR)


def test_no_changed_byte_of_a_report_is_accepted(world: World):
    data = sign(report_on(world), AUDITOR)
    for position in range(0, len(data), 97):
        changed = bytearray(data)
        changed[position] ^= 1
        with pytest.raises((StatementError, SignatureError)):
            open_report(bytes(changed), AUDITOR.verify_key)


def test_without_a_key_nothing_is_sound(world: World, tmp_path: Path):
    subject = of_export(world.folder / "export", None)
    report = payload_of(subject, auditor=AUDITOR.verify_key, made=1)
    assert (report["verdict"]["status"], report["policy"]) == ("untrusted", None)
    assert "the folder&#x27;s own claim" in page(report, "sha256:0")
    assert "--key" not in report["reproduce"]["command"]
    empty = World(tmp_path / "empty", enrolled=False)
    empty.export(empty.folder / "export")
    report = report_on(empty)
    assert (report["period"], report["epochs"]) == (None, None)
    assert "No agreement was opened" in page(report, "sha256:0")
    other = Policy.of(key_of("other.example/log").verify_key)
    report = payload_of(
        of_export(world.folder / "export", other), auditor=AUDITOR.verify_key, made=1
    )
    assert report["checkpoint"] is None
    assert "Trust not met" in page(report, "sha256:0")


def test_a_report_says_how_to_repeat_it(world: World):
    folder, key = world.folder / "export", world.log.vkey
    others = Policy.of(key, SigningKey.from_seed(key.name, bytes(32)).verify_key)
    for policy, given in ((Policy.of(key), f"--key {key.text} "), (others, "--policy POLICY ")):
        subject = of_export(folder, policy, options=("roster",))
        report = payload_of(subject, auditor=AUDITOR.verify_key, made=1)
        assert report["reproduce"] == {
            "command": f"rongshu audit report FOLDER {given}--roster FILE "
            "--sign-with AUDITOR.key --out DIR",
            "digest": subject.digest,
        }


def test_a_reconciliation_never_makes_a_verdict_better(world: World, broken: World):
    for each in (world, broken):
        subject = of_export(each.folder / "export", Policy.of(each.log.vkey))
        worse = replace(subject.verdict, status="tampered", findings=[Finding("a", "b", "c")])
        assert with_result(worse, subject.result).status == "tampered"


class Reading(HTMLParser):
    """Collects tags and text, and checks that they nest."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, str | None]] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += attrs
        if tag not in {"meta", "br"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.text.append(data)


def test_every_change_of_a_key_is_listed(tmp_path: Path):
    world = World(tmp_path / "world", 1)
    provider, keys = world.providers[0], [key_of(f"new{number}") for number in range(2)]
    twin = world.copy(tmp_path / "twin")
    twin.export(tmp_path / "twin" / "export")
    assert report_on(twin)["key_changes"] == {"log": [], "others": 0, "parties": []}
    before = provider.key.verify_key.fingerprint, world.node_key(provider).verify_key.fingerprint
    world.put(world.rotate(provider, provider.asset, keys[0], by="recovery"))
    world.put(world.rotate(provider, provider.id, keys[1]))
    # A key that was in use already is refused, and replaces none.
    world.insecure_put(world.rotate(provider, provider.id, keys[0]))
    world.export(tmp_path / "world" / "export")
    report = report_on(world)
    new = [key.verify_key.fingerprint for key in keys]
    assert [
        (item["of"], item["by"], item["old"], item["new"])
        for item in report["key_changes"]["parties"]
    ] == [
        ("node", "recovery", before[1], new[0]),
        ("participant", "key", before[0], new[1]),
    ]
    text = page(report, "sha256:abc")
    assert all(fingerprint in text for fingerprint in (*before, *new))
    known = {"size": 7, "time": 1, "old": "aaaa", "new": "bbbb", "by": "recovery"}
    report["key_changes"] |= {"log": [known], "others": 2}
    text = page(report, "sha256:abc")
    assert "after 7 entries" in text
    assert "the old recovery key" in text
    assert "2 more changes" in text


def test_the_page_is_whole_and_shows_what_the_report_says(broken: World):
    report = report_on(broken)
    text = page(report, "sha256:abc")
    read = Reading(text)
    assert read.open == []
    assert read.tags["script"] == 0
    assert not [name for name, _ in read.attributes if name in ("src", "href", "onclick")]
    assert "url(" not in text
    words = "".join(read.text)
    for item in (*report["findings"], *report["missing"]):
        assert item["code"] in words
        assert item["message"] in words
    for row in report["checks"]:
        assert row["question"] in words
    for item in report["assumptions"]:
        assert item["text"] in words
    assert "40.00" in words  # billed twice 20.00
    assert "lang" in dict(read.attributes)
    assert read.tags["caption"] == read.tags["table"]


def test_names_from_strangers_stay_text(broken: World):
    report = report_on(broken)
    report["participants"][0]["name"] = EVIL
    report["findings"][0]["message"] = EVIL
    text = page(report, EVIL)
    assert "<script" not in text
    assert "\u202e" not in text
    assert EVIL.replace("\u202e", r"\u202e") in "".join(Reading(text).text)


def test_long_tables_are_cut_and_said_so(world: World, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("ledger.report.MAX_ROWS", 1)
    monkeypatch.setattr("ledger.audit.page.MAX_CELLS", 2)
    report = report_on(world)
    assert (len(report["money"]["agreements"]), report["money"]["others"]) == (1, 1)
    assert report["money"]["totals"]["billed_cents"] == 2_000
    text = page(report, "sha256:0")
    assert "1 further agreements" in text
    assert "are not drawn" in text


# By command.


def command(*words: Any) -> int:
    return commands.command([str(word) for word in words])


@pytest.fixture(name="keys")
def _keys(tmp_path: Path, world: World) -> list[Any]:
    AUDITOR.save(tmp_path / "auditor.key")
    (tmp_path / "auditor.vkey").write_text(AUDITOR.verify_key.text)
    (tmp_path / "log.vkey").write_text(world.log.vkey.text)
    (tmp_path / "canaries").write_text("nonce 1\n")
    journal = world.journal(world.providers[0])
    write_files(tmp_path, {"north.journal": journal})
    return ["--key", f"@{tmp_path / 'log.vkey'}"]


def test_write_and_check_a_report(
    tmp_path: Path, world: World, keys: list[Any], capsys: pytest.CaptureFixture[str]
):
    export, out = world.folder / "export", tmp_path / "out"
    given = ["--journal", tmp_path / "north.journal", "--canaries", tmp_path / "canaries"]
    signed = ["--sign-with", tmp_path / "auditor.key", "--out", out]
    assert command("report", export, *keys, *given, *signed, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    data = (out / "report.json").read_bytes()
    assert told["digest"] == sha256_text(data)
    assert told["digest"] in (out / "report.html").read_text()
    payload = open_report(data, AUDITOR.verify_key)
    assert "--journal FILE --canaries FILE" in payload["reproduce"]["command"]
    assert {row["check"]: row["checked"] for row in payload["checks"]}["canaries"] == 1
    check = ["--check", out / "report.json", "--auditor", f"@{tmp_path / 'auditor.vkey'}"]
    assert command("report", *check) == 0
    assert "signed by auditor.example" in capsys.readouterr().out
    assert command("report", export, *keys, *given, *check, "--json") == 0
    assert json.loads(capsys.readouterr().out)["reproduced"] is True
    # The twin: without the journal it is another report.
    assert command("report", export, *keys, *check, "--json") == 1
    told = json.loads(capsys.readouterr().out)
    assert (told["signed"], told["reproduced"]) == (True, False)
    assert "evidence" in told["message"]
    other = VerifyKey("other.example", key_of("other.example").verify_key.public).text
    assert command("report", "--check", out / "report.json", "--auditor", other) == 1
    assert "NOT ACCEPTED" in capsys.readouterr().out
    assert command("report", export, *keys, *signed) == 64
    assert "not an empty folder" in capsys.readouterr().err


def test_planter_and_results_are_given_on_the_command_line(
    tmp_path: Path, world: World, keys: list[Any], capsys: pytest.CaptureFixture[str]
):
    export = world.folder / "export"
    (job, logged) = next(iter(world.log.history.released.items()))
    signed = ["--sign-with", tmp_path / "auditor.key", "--json"]
    planter = ["--canaries", tmp_path / "canaries", "--planter", world.researcher.id]
    for place, digest, code in ((1, logged.statement.payload()["result"], 0), (2, DIGEST, 1)):
        (tmp_path / "results").write_text(f"{job} {digest}\n")
        given = [*planter, "--results", tmp_path / "results"]
        out = tmp_path / f"out{place}"
        assert command("report", export, *keys, *given, *signed, "--out", out) == code
        capsys.readouterr()
        payload = open_report((out / "report.json").read_bytes(), AUDITOR.verify_key)
        found = [item["code"] for item in payload["findings"]]
        assert found == ([] if code == 0 else ["wrong_result"])
        assert "--planter ID --results FILE" in payload["reproduce"]["command"]
        rows = {row["check"]: row["checked"] for row in payload["checks"]}
        assert (rows["canaries"], rows["results"]) == (1, 1)


DIGEST = "sha256:" + 64 * "0"


def test_follow_a_log_and_report_on_what_was_seen(
    tmp_path: Path, world: World, keys: list[Any], capsys: pytest.CaptureFixture[str]
):
    twin = world.copy(tmp_path / "twin")
    twin.export(tmp_path / "first")
    state = ["--state", tmp_path / "state", *keys]
    given = ["--journal", tmp_path / "north.journal"]
    assert command("monitor", tmp_path / "first", *state, *given) == 0
    assert "sound: rongshu.example/log, 31 entries" in capsys.readouterr().out
    twin.insecure_put(twin.schedule())
    twin.export(tmp_path / "second")
    assert command("monitor", tmp_path / "second", *state, "--json") == 1
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["event"] for line in lines] == ["finding", "look"]
    assert (lines[0]["code"], lines[0]["entries"]) == ("second_schedule", [31])
    assert command("monitor", tmp_path / "first", *state) == 1
    assert "finding (grave): checkpoint: rolled_back" in capsys.readouterr().out
    signed = ["--sign-with", tmp_path / "auditor.key", "--out", tmp_path / "out"]
    assert command("report", tmp_path / "state", *keys, *signed) == 1
    report = open_report((tmp_path / "out" / "report.json").read_bytes(), AUDITOR.verify_key)
    assert [item["code"] for item in report["findings"]] == ["second_schedule", "rolled_back"]
    assert report["source"]["kind"] == "state"
    assert len(report["evidence"]) == 1


def test_wrong_usage_is_told(
    tmp_path: Path, world: World, keys: list[Any], capsys: pytest.CaptureFixture[str]
):
    export = world.folder / "export"
    state = ["--state", tmp_path / "state"]
    signed = ["--sign-with", tmp_path / "auditor.key", "--out", tmp_path / "out"]
    wrong = [
        ("report", export, *keys),
        ("report", tmp_path / "nowhere", *keys, *signed),
        ("report", "--check", tmp_path / "log.vkey"),
        ("report", export, *keys, "--sign-with", tmp_path / "none", "--out", tmp_path / "out"),
        ("monitor", export, *state),
        ("monitor", export, *state, *keys, "--every", "0"),
        ("monitor", export, *state, *keys, "--canaries", tmp_path / "none"),
        ("monitor", export, *state, *keys, "--planter", "somebody"),
        ("monitor", export, *state, *keys, "--results", tmp_path / "log.vkey"),
        ("monitor", "http://market.example", *state, *keys, "--api-key", tmp_path / "none"),
    ]
    for words in wrong:
        assert command(*words) == 64, words
    capsys.readouterr()
    assert command("monitor", tmp_path / "nowhere", *state, *keys) == 2
    assert "unreadable" in capsys.readouterr().out
    assert command("monitor", "http://market.example", *state, *keys) == 64
    assert "use https" in capsys.readouterr().err
    assert command("monitor", "http://127.0.0.1:1", *state, *keys) == 2
    assert "unreadable" in capsys.readouterr().out
    (tmp_path / "canaries").write_bytes(b"\xff\n")
    assert command("monitor", export, *state, *keys, "--canaries", tmp_path / "canaries") == 64
    assert command("monitor", export, *state, *keys) == 0
    other = key_of("other.example/log").verify_key.text
    assert command("monitor", export, *state, "--key", other) == 3
    assert command("report", tmp_path / "state", *signed) == 64
    assert "does not vouch for itself" in capsys.readouterr().err


def test_attachments_of_an_export_are_evidence(tmp_path: Path, world: World):
    keys = write_tag_keys({p.asset: tag_key_of(p.name) for p in world.providers})
    first, second = (world.journal(provider) for provider in world.providers)
    extras = Extras(journals=[first, b"no journal"], tag_keys=keys)
    policy = Policy.of(world.log.vkey)
    subject = of_export(
        world.export(tmp_path / "export", extras=extras),
        policy,
        take=lambda held: held.take_journal("given", second),
    )
    names = [piece.name.split("/")[0] for piece in subject.evidence]
    assert names == ["journals", "journals", "tag-keys"]
    assert subject.result.checked["journals"] == 2
    assert subject.result.checked["use_indexes"] == 3
    assert [(i.code, i.where) for i in subject.verdict.findings] == [
        ("damaged_journal", "journals/001")
    ]
    damaged = world.export(tmp_path / "damaged", extras=Extras(tag_keys=b"{}\n"))
    found = of_export(damaged, policy).verdict.findings
    assert ("damaged", "tag-keys") in [(item.code, item.where) for item in found]


CHROMIUM = shutil.which("chromium")


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no chromium here to print the page with")
def test_the_page_prints(tmp_path: Path, broken: World):
    (tmp_path / "report.html").write_text(page(report_on(broken), "sha256:0"))
    words = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu"]
    out = tmp_path / "report.pdf"
    subprocess.run(
        [*words, f"--print-to-pdf={out}", (tmp_path / "report.html").as_uri()],
        check=True,
        capture_output=True,
        timeout=120,
    )
    assert out.read_bytes().startswith(b"%PDF")
