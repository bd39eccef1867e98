"""A log changes its key; a stolen old one cannot go on."""

from dataclasses import replace

import pytest

from ledger import checkpoint as checkpoints
from ledger import note
from ledger.checkpoint import Checkpoint
from ledger.errors import NoteError, SignatureError, TrustError
from ledger.keys import SigningKey, VerifyKey
from ledger.merkle import leaf_hash
from ledger.succession import (
    MAX_LIST,
    MAX_NOTE,
    MAX_SUCCESSIONS,
    Succession,
    Tenure,
    changes,
    lineage,
    open_succession,
    read_list,
    split_unverified,
    tenures,
    write_list,
)
from ledger.trust import Policy

NAME = "log.example/rongshu"
OLD, NEW, THIRD, THIEF = (
    SigningKey.from_seed(NAME, seed * 32) for seed in (b"a", b"b", b"c", b"t")
)
RECOVERY = SigningKey.from_seed(NAME, b"r" * 32)
STRANGER = SigningKey.from_seed("stranger.example", b"s" * 32)


def head(size: int, history: bytes = b"") -> Checkpoint:
    return Checkpoint(NAME, size, leaf_hash(b"%d" % size + history))


def succession(old: SigningKey, new: SigningKey, at: Checkpoint) -> Succession:
    return Succession(at, old.verify_key, new.verify_key)


def signed(old: SigningKey, new: SigningKey, at: Checkpoint, by: SigningKey | None = None) -> bytes:
    return succession(old, new, at).sign(new, by or old)


FIRST = signed(OLD, NEW, head(18))
SECOND = signed(NEW, THIRD, head(40))
POLICY = Policy.of(OLD.verify_key)
WITH_RECOVERY = Policy((OLD.verify_key,), recovery=(RECOVERY.verify_key,))


def seen(policy: Policy, key: SigningKey, checkpoint: Checkpoint, *notes: bytes) -> VerifyKey:
    return policy.open_checkpoint(checkpoints.sign(checkpoint, key), notes).key


def test_a_succession_survives_being_written():
    opened, recovered = open_succession(FIRST)
    assert opened == split_unverified(FIRST) == succession(OLD, NEW, head(18))
    assert not recovered
    assert opened.text().startswith(f"rongshu/log-succession/v1\n{NAME}\n18\n")


def test_the_new_key_signs_from_the_head_on():
    assert seen(POLICY, NEW, head(18), FIRST) == NEW.verify_key
    assert seen(POLICY, NEW, head(19), FIRST) == NEW.verify_key
    with pytest.raises(TrustError, match="no known key"):
        seen(POLICY, NEW, head(19))
    with pytest.raises(TrustError, match="took over at 18 entries and cannot vouch for 17"):
        seen(POLICY, NEW, head(17), FIRST)


def test_a_stolen_old_key_cannot_go_on():
    assert seen(POLICY, OLD, head(17), FIRST) == OLD.verify_key
    assert seen(POLICY, OLD, head(18), FIRST) == OLD.verify_key
    with pytest.raises(TrustError, match="retired at 18 entries and cannot vouch for 19"):
        seen(POLICY, OLD, head(19), FIRST)
    # Who never saw the succession cannot know: the attack works there.
    assert seen(POLICY, OLD, head(19)) == OLD.verify_key


@pytest.mark.parametrize("key", [OLD, NEW])
def test_at_the_head_there_is_one_root(key: SigningKey):
    assert seen(POLICY, key, head(18), FIRST)
    with pytest.raises(TrustError, match="two histories"):
        seen(POLICY, key, head(18, b" other"), FIRST)


def test_a_line_by_the_retired_key_beside_the_new_one_does_no_harm():
    both = note.sign(head(19).text(), [OLD, NEW])
    assert POLICY.open_checkpoint(both, [FIRST]).key == NEW.verify_key


def test_successions_chain_in_any_order():
    for notes in ([FIRST, SECOND], [SECOND, FIRST], [SECOND, FIRST, FIRST]):
        policy = POLICY.following(notes)
        assert [seen(policy, *use) for use in ((OLD, head(18)), (NEW, head(40)))]
        assert seen(policy, THIRD, head(41)) == THIRD.verify_key
        with pytest.raises(TrustError, match="retired at 40"):
            seen(policy, NEW, head(41))
    assert POLICY.following([FIRST]).following([SECOND]) == POLICY.following([FIRST, SECOND])
    # The second alone does not follow from a key that is trusted.
    with pytest.raises(TrustError):
        seen(POLICY, THIRD, head(41), SECOND)


def test_a_policy_may_list_several_keys_of_one_line():
    policy = Policy.of(NEW.verify_key, OLD.verify_key).following([SECOND, FIRST])
    assert policy.tenures == (
        Tenure(NEW.verify_key, head(18), head(40), THIRD.verify_key),
        Tenure(OLD.verify_key, None, head(18), NEW.verify_key),
        Tenure(THIRD.verify_key, head(40)),
    )
    assert changes(policy.tenures, THIRD.verify_key) == (policy.tenures[1], policy.tenures[0])
    assert changes(policy.tenures, OLD.verify_key) == ()


def test_who_named_the_next_key_is_told():
    text = succession(OLD, NEW, head(18))
    both = text.sign(NEW, RECOVERY, OLD)
    careful = Policy((OLD.verify_key,), recovery=(RECOVERY.verify_key,))
    assert careful.following([both]).tenures[0].recovered
    # Who knows no recovery key believes the old one's signature on the same note.
    assert not POLICY.following([both]).tenures[0].recovered
    with pytest.raises(NoteError, match="signed by the new key"):
        text.sign(NEW, OLD, NEW)


# --- the list that a service shows


def test_a_list_survives_being_written():
    for notes in ((), (FIRST,), (FIRST, SECOND)):
        assert read_list(write_list(notes)) == notes


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"nothing", "no JSON"),
        (b"[" * 100_000, "no JSON"),
        (b"[]", "list of texts"),
        (b'{"successions": "x"}', "list of texts"),
        (b'{"successions": [1]}', "list of texts"),
        (write_list([FIRST] * (MAX_SUCCESSIONS + 1)), "at most 100"),
        (write_list([FIRST.ljust(MAX_NOTE + 1)]), "longer than"),
        (write_list([FIRST]).ljust(MAX_LIST + 1), "more than"),
    ],
    ids=["text", "bomb", "list", "string", "number", "many", "long", "huge"],
)
def test_another_list_is_refused(data: bytes, message: str):
    with pytest.raises(NoteError, match=message):
        read_list(data)


def test_only_what_leads_on_from_trusted_keys_is_kept():
    policy = POLICY.following([FIRST])
    strangers = signed(THIRD, RECOVERY, head(7))
    assert policy.following([strangers]).followed == (FIRST,)
    assert policy.heads(NAME) == {18: head(18).root}
    assert policy.heads("another") == {}


def test_trust_does_not_go_back():
    newcomer = Policy.of(NEW.verify_key)
    assert seen(newcomer, NEW, head(19), FIRST)
    with pytest.raises(TrustError):
        seen(newcomer, OLD, head(17), FIRST)


def test_a_succession_needs_both_signatures():
    text = succession(OLD, NEW, head(18)).text()
    assert open_succession(note.sign(text, [OLD, NEW]))
    for keys in ([OLD], [NEW], [NEW, STRANGER], [OLD, STRANGER], [NEW, RECOVERY]):
        with pytest.raises(TrustError):
            open_succession(note.sign(text, keys))
        with pytest.raises(TrustError):
            POLICY.following([note.sign(text, keys)])
    assert open_succession(note.sign(text, [NEW, RECOVERY]), [RECOVERY.verify_key])[1]


def test_a_changed_succession_is_refused():
    for place in range(len(FIRST)):
        damaged = bytearray(FIRST)
        damaged[place] ^= 1
        with pytest.raises((NoteError, SignatureError, TrustError)):
            open_succession(bytes(damaged))


def test_a_thiefs_rival_succession_is_noticed():
    rival = signed(OLD, THIEF, head(17))
    assert seen(POLICY, THIEF, head(19), rival) == THIEF.verify_key
    with pytest.raises(TrustError, match="two successions of one key"):
        seen(POLICY, NEW, head(19), FIRST, rival)
    # The same change signed twice over is one change.
    again = succession(OLD, NEW, head(18)).sign(NEW, RECOVERY)
    assert seen(WITH_RECOVERY, NEW, head(19), FIRST, again)


def test_a_recovery_key_overrules_the_thief():
    rescued = signed(OLD, NEW, head(18), RECOVERY)
    rival = signed(OLD, THIEF, head(18))
    assert seen(WITH_RECOVERY, NEW, head(19), rival, rescued) == NEW.verify_key
    with pytest.raises(TrustError):
        seen(WITH_RECOVERY, THIEF, head(19), rival, rescued)
    # Without the recovery key in the policy nobody vouches for the rescue.
    with pytest.raises(TrustError, match="lacks the signature"):
        seen(POLICY, NEW, head(19), rescued)
    with pytest.raises(TrustError, match="two successions"):
        seen(WITH_RECOVERY, NEW, head(19), rescued, signed(OLD, THIRD, head(19), RECOVERY))


def test_a_recovery_key_speaks_for_its_own_log_alone():
    other = SigningKey.from_seed("log.example/other", b"o" * 32)
    text = succession(OLD, NEW, head(18)).text()
    with pytest.raises(TrustError, match="lacks the signature"):
        open_succession(note.sign(text, [NEW, other]), [other.verify_key])
    assert open_succession(note.sign(text, [NEW, RECOVERY]), [RECOVERY.verify_key])[1]
    # Beside the old key's, its signature says nothing.
    assert not open_succession(note.sign(text, [OLD, NEW, other]), [other.verify_key])[1]


def test_successions_that_contradict_each_other_are_refused():
    with pytest.raises(TrustError, match="same new key"):
        Policy.of(OLD.verify_key, THIEF.verify_key).following([FIRST, signed(THIEF, NEW, head(18))])
    with pytest.raises(TrustError, match="took over at 18 entries and was retired at 17"):
        POLICY.following([FIRST, signed(NEW, THIRD, head(17))])
    with pytest.raises(TrustError, match="two histories"):
        POLICY.following([FIRST, signed(NEW, THIRD, head(18, b" other"))])
    assert POLICY.following([FIRST, signed(NEW, THIRD, head(18))])
    with pytest.raises(TrustError, match="circle"):
        POLICY.following([FIRST, signed(NEW, OLD, head(18))])
    with pytest.raises(TrustError):
        POLICY.following([FIRST, SECOND, signed(THIRD, NEW, head(50))])


def test_only_so_many_are_looked_at():
    many = [signed(THIEF, NEW, head(size)) for size in range(1, MAX_SUCCESSIONS + 2)]
    assert tenures([OLD.verify_key], many[1:]) == (Tenure(OLD.verify_key),)
    with pytest.raises(NoteError, match="at most 100"):
        tenures([OLD.verify_key], many)


@pytest.mark.parametrize(
    "change",
    [
        {"new": OLD.verify_key},
        {"new": STRANGER.verify_key},
        {"old": STRANGER.verify_key},
        {"head": replace(head(18), origin="log.example/other")},
        {"head": replace(head(18), extensions=("more",))},
    ],
)
def test_a_succession_is_of_two_keys_of_one_log(change: dict[str, object]):
    assert replace(succession(OLD, NEW, head(18)), head=head(19))
    with pytest.raises(NoteError):
        replace(succession(OLD, NEW, head(18)), **change)


def test_nobody_signs_for_another():
    change = succession(OLD, NEW, head(18))
    assert change.sign(NEW, OLD)
    for new, by in ((THIEF, OLD), (NEW, NEW)):
        with pytest.raises(NoteError):
            change.sign(new, by)


TEXT = succession(OLD, NEW, head(18)).text()


@pytest.mark.parametrize(
    "text",
    [
        TEXT + "more\n",
        TEXT.replace("v1", "v2", 1),
        TEXT.replace("\n18\n", "\n018\n"),
        TEXT.replace(OLD.verify_key.text, "nonsense"),
        head(18).text(),
        "rongshu/log-succession/v1\n",
    ],
)
def test_another_text_is_no_succession(text: str):
    assert split_unverified(note.sign(TEXT, [OLD, NEW]))
    with pytest.raises(NoteError):
        split_unverified(note.sign(text, [OLD, NEW]))


def test_a_log_follows_its_own_keys_back():
    assert lineage(THIRD.verify_key, [FIRST, SECOND]) == (
        Tenure(THIRD.verify_key, head(40)),
        Tenure(NEW.verify_key, head(18), head(40)),
        Tenure(OLD.verify_key, None, head(18)),
    )
    assert lineage(OLD.verify_key, []) == (Tenure(OLD.verify_key),)
    # What leads elsewhere is not its own.
    assert lineage(THIRD.verify_key, [signed(OLD, THIEF, head(18))]) == (Tenure(THIRD.verify_key),)
    with pytest.raises(TrustError, match="retired at 40 entries"):
        lineage(NEW.verify_key, [FIRST, SECOND])
    unsigned = note.sign(succession(OLD, NEW, head(18)).text(), [OLD])
    with pytest.raises(TrustError):
        lineage(NEW.verify_key, [unsigned])
