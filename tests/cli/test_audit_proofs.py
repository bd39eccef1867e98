"""`rongshu audit prove`, `check-proof` and `fork`: files, exit codes and what is told."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from ledger import checkpoint as checkpoints
from ledger.checkpoint import open_checkpoint
from ledger.cosignature import attach, cosign
from ledger.keys import CosigningKey, SigningKey
from ledger.succession import Succession
from ledger.trust import Policy, Witness
from tests.drafts import key_of
from tests.forgery import chain, insecure_export
from tests.world import LOG_NAME, World

RECEIPT = 18  # the first receipt of the world below
WITNESS = CosigningKey.from_seed("witness.example/north", b"n" * 32)

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World.with_one_use(tmp_path_factory.mktemp("world"), providers=3)


@pytest.fixture(scope="module")
def folder(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return world.export(tmp_path_factory.mktemp("export"))


@pytest.fixture(scope="module")
def forked(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same log with another history from the last entry on, and signed by its key."""
    lie = chain([*world.entries()[:-2], world.entries()[-1]])
    path = tmp_path_factory.mktemp("forked") / "export"
    return insecure_export(path, world.log_key, lie, [])


@pytest.fixture
def key(world: World) -> str:
    return world.log.vkey.text


def test_an_entry_is_proven_and_checked(
    run: Run, folder: Path, key: str, tmp_path: Path, world: World
):
    proof = tmp_path / "use.tlog-proof"
    code, out, _ = run("prove", folder, RECEIPT, "--out", proof, "--key", key)
    assert code == 0
    assert f"proves entry {RECEIPT}, receipt of 2026" in out
    assert "No key" not in out
    code, out, _ = run("check-proof", proof, "--key", key)
    assert (code, out.startswith("PROVEN: ")) == (0, True)
    for told in (LOG_NAME, world.log.vkey.fingerprint, f"{RECEIPT}, receipt", "not disclosed"):
        assert told in out


def test_a_statement_is_disclosed_when_asked_for(
    run: Run, folder: Path, key: str, tmp_path: Path, world: World
):
    proof = tmp_path / "use.tlog-proof"
    code, out, _ = run("prove", folder, RECEIPT, "--disclose", "--out", proof)
    assert code == 0
    assert "discloses the statement" in out
    assert "No key was given" in out
    assert world.use
    node = world.node_key(world.providers[0]).verify_key.text
    code, out, _ = run("check-proof", proof, "--key", key, "--signer", node)
    assert code == 0
    assert world.use.receipts[0] in out
    assert "signed by: hospital1.example/node" in out
    assert '"state": "completed"' in out
    code, out, err = run("check-proof", proof, "--key", key, "--signer", key)
    assert (code, out) == (1, "")
    assert "not by whom you named" in err
    assert "--signer" in run("check-proof", proof, "--key", key)[1]


def test_without_out_the_proof_is_printed(run: Run, folder: Path, key: str, tmp_path: Path):
    code, out, _ = run("prove", folder, 0)
    assert (code, out.startswith("c2sp.org/tlog-proof@v1\n")) == (0, True)
    (tmp_path / "proof").write_text(out)
    assert run("check-proof", tmp_path / "proof", "--key", key)[0] == 0


def test_one_json_object_is_printed(run: Run, folder: Path, key: str, tmp_path: Path):
    proof = tmp_path / "use.tlog-proof"
    code, out, _ = run("prove", folder, RECEIPT, "--disclose", "--out", proof, "--json")
    made = json.loads(out)
    assert (code, made["index"], made["kind"], made["checked"]) == (0, RECEIPT, "receipt", False)
    assert made["proof"] == proof.read_text()
    code, out, _ = run("check-proof", proof, "--key", key, "--json")
    shown = json.loads(out)
    assert (code, shown["exit_code"], shown["origin"]) == (0, 0, LOG_NAME)
    assert shown["statement"]["payload"]["state"] == "completed"
    assert shown["witnessed_at"] is None
    proof.write_bytes(proof.read_bytes().replace(b"index 18", b"index 19"))
    code, out, _ = run("check-proof", proof, "--key", key, "--json")
    assert (code, json.loads(out)["exit_code"]) == (1, 1)


def test_a_changed_proof_is_refused(run: Run, folder: Path, key: str, tmp_path: Path):
    proof = tmp_path / "use.tlog-proof"
    run("prove", folder, RECEIPT, "--out", proof)
    assert run("check-proof", proof, "--key", key)[0] == 0
    proof.write_bytes(proof.read_bytes().replace(b"index 18", b"index 16"))
    code, out, err = run("check-proof", proof, "--key", key)
    assert (code, out) == (1, "")
    assert err.startswith("rongshu audit check-proof: ")


def test_entry_and_opening_may_stand_beside_the_proof(
    run: Run, folder: Path, key: str, tmp_path: Path, world: World
):
    proof, entry, opening = (tmp_path / name for name in ("proof", "entry", "opening"))
    run("prove", folder, RECEIPT, "--out", proof)
    entry.write_bytes(world.log.entry_bytes(RECEIPT, RECEIPT + 1)[0])
    opening.write_bytes(world.openings()[RECEIPT].to_bytes() + b"\n")
    lines = proof.read_bytes().split(b"\n")
    proof.write_bytes(b"\n".join(line for line in lines if not line.startswith(b"extra ")))
    code, _, err = run("check-proof", proof, "--key", key)
    assert (code, "give it beside" in err) == (2, True)
    code, out, _ = run("check-proof", proof, "--key", key, "--entry", entry, "--opening", opening)
    assert (code, "receipt:" in out) == (0, True)
    node = world.node_key(world.providers[0]).verify_key.text
    code, _, err = run("check-proof", proof, "--key", key, "--entry", entry, "--signer", node)
    assert (code, "discloses no statement" in err) == (2, True)


def test_another_key_vouches_for_nothing(run: Run, folder: Path, tmp_path: Path):
    other = key_of("elsewhere.example").verify_key.text
    proof = tmp_path / "proof"
    code, _, err = run("prove", folder, RECEIPT, "--key", other, "--out", proof)
    assert (code, proof.exists()) == (3, False)
    assert "no known key" in err
    run("prove", folder, RECEIPT, "--out", proof)
    assert run("check-proof", proof, "--key", other)[0] == 3


def test_a_policy_asks_for_witnesses(run: Run, folder: Path, tmp_path: Path, world: World):
    policy = tmp_path / "policy"
    known = (Witness("north", WITNESS.verify_key),)
    policy.write_text(Policy((world.log.vkey,), known, quorum="north").text())
    code, _, err = run("prove", folder, RECEIPT, "--policy", policy)
    assert (code, "by 0 of the 1" in err) == (3, True)
    seen = tmp_path / "seen"
    shutil.copytree(folder, seen)
    signed = (seen / "checkpoint").read_bytes()
    (seen / "checkpoint").write_bytes(attach(signed, [cosign(signed, WITNESS, 1_767_225_700)]))
    proof = tmp_path / "proof"
    assert run("prove", seen, RECEIPT, "--policy", policy, "--out", proof)[0] == 0
    code, out, _ = run("check-proof", proof, "--policy", policy)
    assert code == 0
    assert "north, 2026-01-01 00:01:40Z" in out
    assert "quorum:    since 2026-01-01 00:01:40Z" in out


def test_what_is_not_there_is_not_proven(run: Run, folder: Path, tmp_path: Path, world: World):
    code, _, err = run("prove", folder, 99)
    assert (code, "has no entry 99; its last is" in err) == (2, True)
    sealed = world.export(tmp_path / "sealed", opened=[0])
    assert run("prove", sealed, 0, "--disclose")[0] == 0
    code, _, err = run("prove", sealed, RECEIPT, "--disclose")
    assert (code, "does not open entry 18" in err) == (2, True)
    shutil.rmtree(sealed / "openings")
    assert run("prove", sealed, 0, "--disclose")[0] == 2
    damaged = tmp_path / "damaged"
    shutil.copytree(folder, damaged)
    tile = next((damaged / "tile" / "0").rglob("*/*"))
    tile.write_bytes(bytes(len(tile.read_bytes())))
    code, _, err = run("prove", damaged, RECEIPT)
    assert (code, "does not lead to the root" in err) == (1, True)
    tile.unlink()
    assert run("prove", damaged, RECEIPT)[0] == 2


def test_two_views_of_one_history(run: Run, folder: Path, key: str, tmp_path: Path, world: World):
    later = world.copy(tmp_path / "later")
    later.put(later.revoke(later.providers[0], later.providers[0].offer))
    newer = later.export(tmp_path / "newer")
    for one, other in ((folder, newer), (newer, folder), (folder / "checkpoint", newer)):
        code, out, _ = run("fork", one, other, "--key", key)
        told = f"the view of {later.log.size} entries begins with that of {world.log.size}.\n"
        assert (code, out) == (0, f"ONE HISTORY: {told}")
    assert "the same" in run("fork", folder, folder, "--key", key)[1]
    code, out, _ = run("fork", folder, newer, "--key", key, "--json")
    assert (code, json.loads(out)["forked"]) == (0, False)
    code, _, err = run("fork", folder / "checkpoint", newer / "checkpoint", "--key", key)
    assert (code, "cannot be told" in err) == (2, True)


def test_a_fork_is_found_kept_and_checked(
    run: Run, folder: Path, forked: Path, key: str, tmp_path: Path, world: World
):
    proof = tmp_path / "log.fork-proof"
    code, out, _ = run("fork", folder, forked, "--key", key, "--out", proof)
    assert (code, out.startswith("FORKED: ")) == (1, True)
    assert f"they differ in entry {world.log.size - 2}" in out
    code, out, _ = run("fork", proof, "--key", key)
    assert (code, "nobody else could have made them" in out) == (1, True)
    code, out, _ = run("fork", folder, forked, "--key", key, "--json")
    told = json.loads(out)
    assert (code, told["forked"], told["proof"]) == (1, True, proof.read_text())
    assert "--out FILE" in run("fork", folder, forked, "--key", key)[1]
    code, _, err = run("fork", folder, forked / "checkpoint", "--key", key)
    assert (code, "two histories" in err) == (1, True)


def test_a_forger_accuses_nobody(run: Run, folder: Path, key: str, tmp_path: Path, world: World):
    thief = SigningKey.from_seed(LOG_NAME, b"t" * 32)
    fake = insecure_export(tmp_path / "fake", thief, chain(world.entries()[:-1]), [])
    code, out, _ = run("fork", folder, fake, "--key", key, "--out", tmp_path / "proof")
    assert (code, out, (tmp_path / "proof").exists()) == (3, "", False)
    assert run("fork", folder, folder, "--key", thief.verify_key.text)[0] == 3


def test_a_fork_proof_of_nothing_is_refused(
    run: Run, folder: Path, forked: Path, key: str, tmp_path: Path
):
    proof = tmp_path / "log.fork-proof"
    run("fork", folder, forked, "--key", key, "--out", proof)
    proof.write_bytes(proof.read_bytes().replace(b"leaf ", b"leaf A", 1))
    assert run("fork", proof, "--key", key)[0] == 2
    assert run("fork", folder / "checkpoint", "--key", key)[0] == 2


def test_a_log_that_changed_its_key_is_followed(
    run: Run, folder: Path, key: str, tmp_path: Path, world: World
):
    new = SigningKey.from_seed(LOG_NAME, b"n" * 32)
    head = open_checkpoint(world.log.checkpoint(), world.log.vkey)
    change = Succession(head, world.log.vkey, new.verify_key).sign(new, world.log_key)
    (tmp_path / "succession").write_bytes(change)
    after = tmp_path / "after"
    shutil.copytree(folder, after)
    (after / "checkpoint").write_bytes(checkpoints.sign(head, new))
    given = ("--key", key, "--succession", tmp_path / "succession")
    assert run("prove", after, RECEIPT, "--key", key)[0] == 3
    assert run("prove", after, RECEIPT, *given, "--out", tmp_path / "proof")[0] == 0
    assert run("check-proof", tmp_path / "proof", *given)[0] == 0
    assert run("fork", folder, after, *given)[0] == 0
    # An export that carries the succession needs it from nowhere else.
    (after / "succession").mkdir()
    (after / "succession" / "000").write_bytes(change)
    assert run("prove", after, RECEIPT, "--key", key)[0] == 0
    assert run("fork", folder, after, "--key", key)[0] == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ("prove", "{missing}", "1"),
        ("prove", "{folder}", "one"),
        ("prove", "{folder}", "1", "--key", "nonsense"),
        ("prove", "{folder}", "1", "--key", "@{folder}/log.vkey"),
        ("prove", "{folder}", "1", "--policy", "{folder}/log.vkey"),
        ("prove", "{folder}", "1", "--policy", "{missing}"),
        ("prove", "{folder}", "1", "--policy", "{file}"),
        ("prove", "{folder}", "1", "--key", "{key}", "--policy", "{file}"),
        ("prove", "{folder}", "1", "--key", "{key}", "--succession", "{file}"),
        ("prove", "{folder}", "1", "--out", "{missing}/proof"),
        ("check-proof", "{file}"),
        ("check-proof", "{missing}", "--key", "{key}"),
        ("check-proof", "{file}", "--key", "{key}", "--signer", "nonsense"),
        ("check-proof", "{file}", "--key", "{key}", "--entry", "{missing}"),
        ("fork", "{folder}", "--out", "{file}", "--key", "{key}"),
        ("fork", "{folder}", "{folder}", "{folder}", "--key", "{key}"),
        ("fork", "{folder}", "{folder}"),
        ("fork", "{missing}", "{folder}", "--key", "{key}"),
        ("fork", "{folder}", "{forked}", "--key", "{key}", "--out", "{missing}/proof"),
        ("fork", "{folder}", "{forked}", "--key", "@{forked}/log.vkey"),
    ],
)
def test_wrong_usage(
    run: Run, folder: Path, forked: Path, key: str, tmp_path: Path, arguments: tuple[str, ...]
):
    (tmp_path / "file").write_text("nonsense\n")
    names = {
        "folder": folder,
        "forked": forked,
        "key": key,
        "file": tmp_path / "file",
        "missing": tmp_path / "missing",
    }
    code, out, err = run(*(item.format(**names) for item in arguments))
    assert (code, out) == (64, "")
    assert err


def test_files_of_any_length_are_bounded(run: Run, key: str, tmp_path: Path):
    with (tmp_path / "large").open("wb") as file:
        file.truncate(10 << 30)
    for arguments in (("check-proof", tmp_path / "large"), ("fork", tmp_path / "large")):
        code, _, err = run(*arguments, "--key", key)
        assert code in (2, 64)
        assert "longer than" in err


def test_a_whole_export_is_verified_under_a_policy(
    run: Run, folder: Path, tmp_path: Path, world: World
):
    policy = tmp_path / "policy"
    known = (Witness("north", WITNESS.verify_key),)
    policy.write_text(Policy((world.log.vkey,)).text())
    assert run("verify", folder, "--policy", policy)[0] == 0
    policy.write_text(Policy((world.log.vkey,), known, quorum="north").text())
    code, out, _ = run("verify", folder, "--policy", policy)
    assert (code, "by 0 of the 1 that the quorum 'north' needs" in out) == (3, True)
