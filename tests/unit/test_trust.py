"""Policies: read strictly, written back, and met by a quorum or not."""

import itertools
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger import checkpoint as checkpoints
from ledger import note
from ledger.checkpoint import Checkpoint
from ledger.cosignature import attach, cosign
from ledger.errors import (
    InvalidKeyError,
    LedgerError,
    NoteError,
    PolicyError,
    SignatureError,
    TrustError,
)
from ledger.keys import COSIGNATURE_MLDSA, CosigningKey, SigningKey
from ledger.merkle import leaf_hash
from ledger.quorum import seen_by
from ledger.trust import MAX_BYTES, MAX_ITEMS, NONE, Group, Policy, Witness

LOG = SigningKey.from_seed("log.example/rongshu", b"l" * 32)
OTHER = SigningKey.from_seed("log.example/other", b"o" * 32)
HEAD = Checkpoint(LOG.name, 18, leaf_hash(b"tree"))
SIGNED = checkpoints.sign(HEAD, LOG)
WITNESSES = {
    name: CosigningKey.from_seed(f"{name}.witness.example", name.encode() * 16)
    for name in ("X1", "X2", "X3", "Y1", "Y2", "Y3")
}
LATTICE = CosigningKey.from_seed("lattice.example", b"m" * 32, COSIGNATURE_MLDSA)
LINES = [
    f"log {LOG.verify_key.text}",
    *(f"witness {name} {key.verify_key.text}" for name, key in WITNESSES.items()),
    "group X-witnesses 2 X1 X2 X3",
    "group Y-witnesses any Y1 Y2 Y3",
    "group X-and-Y all X-witnesses Y-witnesses",
    "quorum X-and-Y",
]
TEXT = "".join(f"{line}\n" for line in LINES)
POLICY = Policy.parse(TEXT)


def cosigned(times: dict[str, int], signed: bytes = SIGNED) -> bytes:
    keys = WITNESSES | {"lattice": LATTICE}
    return attach(signed, [cosign(signed, keys[name], time) for name, time in times.items()])


def with_lines(*lines: str) -> str:
    return "".join(f"{line}\n" for line in lines)


def test_a_policy_is_read_and_written_back():
    assert POLICY.logs == (LOG.verify_key,)
    assert [witness.name for witness in POLICY.witnesses] == list(WITNESSES)
    assert POLICY.groups[0] == Group("X-witnesses", 2, ("X1", "X2", "X3"))
    assert POLICY.groups[2].threshold == 2
    assert Policy.parse(POLICY.text()) == POLICY
    assert Policy.parse(TEXT.encode()) == POLICY


def test_spaces_tabs_comments_and_order_do_not_matter():
    loose = (
        b"# caf\xe9 in latin-1\n \t# indented\n\n \t \n"
        + TEXT.replace("group X-witnesses 2 ", "  group\t X-witnesses\t2  ")
        .replace("\nquorum X-and-Y\n", " \t\nquorum X-and-Y\t\n")
        .encode()
    )
    assert Policy.parse(loose) == POLICY
    first, *rest = LINES
    assert Policy.parse(with_lines(*rest, first)) == POLICY


def test_urls_and_recovery_keys_are_kept():
    recovery = SigningKey.from_seed(LOG.name, b"r" * 32).verify_key
    text = with_lines(
        f"log {LOG.verify_key.text} https://log.example",
        f"recovery {recovery.text}",
        f"witness X1 {WITNESSES['X1'].verify_key.text} http://x1.example/蓉",
        "quorum X1",
    )
    policy = Policy.parse(text)
    assert policy.urls == ((LOG.verify_key, "https://log.example"),)
    assert policy.witnesses[0].url == "http://x1.example/蓉"
    assert policy.recovery == (recovery,)
    assert policy.text() == text


def test_a_bare_key_asks_for_no_witness():
    policy = Policy.of(LOG.verify_key)
    trusted = policy.open_checkpoint(SIGNED)
    assert (trusted.checkpoint, trusted.key) == (HEAD, LOG.verify_key)
    assert (trusted.witnesses, trusted.witnessed_at) == ((), None)
    assert policy.text() == f"log {LOG.verify_key.text}\nquorum none\n"
    assert Policy.parse(policy.text()) == policy


X1, X2 = (f"witness {name} {WITNESSES[name].verify_key.text}" for name in ("X1", "X2"))
SAME_KEY = f"witness again {CosigningKey.from_seed('again', b'X1' * 16).verify_key.text}"
LOG_LINE = LINES[0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (with_lines(LOG_LINE), "no quorum line"),
        (with_lines(LOG_LINE, "quorum none", "quorum none"), "line 3.*one quorum"),
        (with_lines(LOG_LINE, "quorum"), "one quorum line"),
        (with_lines(LOG_LINE, "quorum X1"), "line 2.*'X1', which no line before"),
        (with_lines("quorum X1", X1), "line 1.*'X1'"),
        (with_lines(X1, "group g any X1 X2", X2, "quorum g"), "line 2.*names 'X2'"),
        (with_lines(X1, "group g any g", "quorum g"), "line 2.*names 'g'"),
        (with_lines(X1, "group g any none", "quorum g"), "names 'none'"),
        (with_lines(X1, X2, "group g all X1 X1", "quorum g"), "'X1' is a member of a group twice"),
        (with_lines(X1, X2, "group g any X1", "group h all X1 X2", "quorum h"), "line 4.*twice"),
        (with_lines(X1, "group g any", "quorum g"), "a group line reads"),
        (with_lines(X1, "group g 0 X1", "quorum g"), "'0' is none of all, any"),
        (with_lines(X1, "group g 2 X1", "quorum g"), "asks for 2 of 1"),
        (with_lines(X1, "group g 01 X1", "quorum g"), "'01'"),
        (with_lines(X1, "group g +1 X1", "quorum g"), r"'\+1'"),
        (with_lines(X1, "group g ١ X1", "quorum g"), "'١'"),
        (with_lines(X1, "group g 1000 X1", "quorum g"), "'1000'"),
        (with_lines(X1, "group g ALL X1", "quorum g"), "'ALL'"),
        (with_lines(X1, X1, "quorum X1"), "line 2.*'X1' is taken"),
        (with_lines(X1, X2, "group X1 any X2", "quorum X2"), "'X1' is taken"),
        (with_lines(X1.replace("X1", "none", 1), "quorum none"), "'none' is taken"),
        (with_lines(X1, SAME_KEY, "quorum none"), "stands in the policy twice"),
        (with_lines(LOG_LINE, LOG_LINE, "quorum none"), "line 2.*twice"),
        (with_lines(LOG_LINE, LOG_LINE.replace("log ", "recovery "), "quorum none"), "twice"),
        (with_lines("log", "quorum none"), "a log line reads"),
        (with_lines(f"{LOG_LINE} url more", "quorum none"), "a log line reads"),
        (with_lines("recovery", "quorum none"), "a recovery line reads"),
        (with_lines(f"{X1} url more", "quorum none"), "a witness line reads"),
        (with_lines("witness X1", "quorum none"), "a witness line reads"),
        (with_lines("log nonsense", "quorum none"), "line 1.*verifier key"),
        (with_lines(f"log {WITNESSES['X1'].verify_key.text}", "quorum none"), "list its key as"),
        (with_lines(f"log {LATTICE.verify_key.text}", "quorum none"), "ML-DSA-44 line"),
        (with_lines(LOG_LINE.replace("log ", "witness X1 "), "quorum none"), "cosigner's key"),
        (with_lines("Log x", "quorum none"), "'Log' is none of"),
        (with_lines("quorum none").rstrip("\n"), "line 1.*newline"),
        (with_lines("quorum none\r"), "line 1.*0x0d"),
        (with_lines("# \x7f", "quorum none"), "line 1.*0x7f"),
        (with_lines("", "quorum none\0"), "line 2.*0x00"),
        ("\n" * MAX_BYTES + "quorum none\n", "more than the"),
        (with_lines("quorum \ud800"), "line 1.*UTF-8"),
    ],
)
def test_another_text_is_no_policy(text: str, message: str):
    with pytest.raises(PolicyError, match=message):
        Policy.parse(text)


def test_the_twins_of_what_is_refused_are_read():
    assert Policy.parse(with_lines(LOG_LINE, "quorum none"))
    assert Policy.parse(with_lines(X1, "quorum X1", X2))
    assert Policy.parse(with_lines(X1, X2, "group g any X1 X2", "quorum g"))
    assert Policy.parse(with_lines(X1, X2, "group g 2 X1 X2", "quorum X1")).quorum == "X1"


def numbered(count: int, seed: bytes) -> list[str]:
    keys = [
        CosigningKey.from_seed(f"w{number}", seed + number.to_bytes(31, "big"))
        for number in range(count)
    ]
    return [f"witness w{number} {key.verify_key.text}" for number, key in enumerate(keys)]


def test_sizes_are_bounded_above_what_the_format_asks_for():
    lines = numbered(MAX_ITEMS + 1, b"n")
    members = " ".join(f"w{number}" for number in range(MAX_ITEMS))
    policy = Policy.parse(with_lines(*lines[:MAX_ITEMS], f"group g 100 {members}", "quorum g"))
    assert policy.groups[0].threshold == MAX_ITEMS
    with pytest.raises(PolicyError, match="more than 100 witnesses"):
        Policy.parse(with_lines(*lines, "quorum none"))


@pytest.mark.parametrize(
    "change",
    [
        {"quorum": "nobody"},
        {"logs": (LOG.verify_key, LOG.verify_key)},
        {"groups": (*POLICY.groups, Group("more", 1, ("X1",)))},
        {"groups": (Group("early", 1, ("late",)), Group("late", 1, ("X1",)))},
        {"witnesses": (*POLICY.witnesses, Witness("a b", LATTICE.verify_key))},
        {"witnesses": (*POLICY.witnesses, Witness("", LATTICE.verify_key))},
        {"witnesses": (*POLICY.witnesses, Witness("\ud800", LATTICE.verify_key))},
        {"witnesses": (*POLICY.witnesses, Witness("m", LATTICE.verify_key, "a b"))},
        {"recovery": (OTHER.verify_key,)},
        {"urls": ((OTHER.verify_key, "https://x"),)},
        {"urls": ((LOG.verify_key, "https://x"), (LOG.verify_key, "https://y"))},
        {"urls": ((LOG.verify_key, ""),)},
    ],
)
def test_a_policy_that_could_not_be_written_cannot_be_made(change: dict[str, object]):
    assert replace(POLICY, witnesses=(*POLICY.witnesses, Witness("m", LATTICE.verify_key)))
    with pytest.raises(PolicyError):
        replace(POLICY, **change)


def test_keys_that_cannot_be_told_apart_are_refused():
    twin = CosigningKey.from_seed("X1.witness.example", b"2" * 32).verify_key
    two = (Witness("a", WITNESSES["X1"].verify_key), Witness("b", twin))
    assert Policy((LOG.verify_key,), two)
    # Finding a second key with the same 32 bits takes minutes; here it is made out of nothing.
    twin.__dict__["key_id"] = two[0].key.key_id
    with pytest.raises(PolicyError, match="share the id"):
        Policy((LOG.verify_key,), two)


def test_a_quorum_of_groups_is_met():
    trusted = POLICY.open_checkpoint(cosigned({"X1": 10, "X3": 20, "Y2": 30}))
    assert trusted.checkpoint == HEAD
    assert trusted.witnesses == (("X1", 10), ("X3", 20), ("Y2", 30))
    assert trusted.witnessed_at == 10


@pytest.mark.parametrize(
    "names", [(), ("X1",), ("X1", "X2"), ("X1", "Y1"), ("X1", "X2", "X3"), ("Y1", "Y2", "Y3")]
)
def test_less_than_a_quorum_is_not_trusted(names: tuple[str, ...]):
    assert POLICY.open_checkpoint(cosigned(dict.fromkeys((*names, "X1", "X2", "Y1"), 1)))
    with pytest.raises(TrustError, match="of the 2 that the quorum 'X-and-Y' needs; not by '"):
        POLICY.open_checkpoint(cosigned(dict.fromkeys(names, 1)))


def test_without_the_quorum_the_same_checkpoint_passes():
    assert replace(POLICY, quorum=NONE).open_checkpoint(SIGNED).checkpoint == HEAD


def test_a_single_witness_may_be_the_quorum():
    policy = replace(POLICY, quorum="Y3")
    assert policy.open_checkpoint(cosigned({"Y3": 7, "X1": 99})).witnessed_at == 7
    with pytest.raises(TrustError, match="by 0 of the 1 that the quorum 'Y3' needs"):
        policy.open_checkpoint(cosigned({"X1": 99}))


def test_a_cosignature_for_another_checkpoint_spoils_it():
    other = checkpoints.sign(replace(HEAD, size=19), LOG)
    stolen = cosign(other, WITNESSES["X1"], 5)
    policy = replace(POLICY, quorum="X1")
    assert policy.open_checkpoint(attach(SIGNED, [cosign(SIGNED, WITNESSES["X1"], 5)]))
    with pytest.raises(SignatureError):
        policy.open_checkpoint(attach(SIGNED, [stolen]))
    # Even beside a good one, and even where no quorum is asked for.
    for quorum in ("X1", NONE):
        with pytest.raises(SignatureError):
            replace(policy, quorum=quorum).open_checkpoint(attach(cosigned({"X1": 5}), [stolen]))
    # By somebody the policy does not know, it says nothing.
    stranger = replace(POLICY, witnesses=(), groups=(), quorum=NONE)
    assert stranger.open_checkpoint(attach(SIGNED, [stolen])).witnesses == ()


def test_a_witness_that_cosigns_twice_counts_once_with_its_later_time():
    twice = attach(SIGNED, [cosign(SIGNED, WITNESSES["X1"], time) for time in (9, 4)])
    with pytest.raises(TrustError):
        POLICY.open_checkpoint(attach(twice, [cosign(SIGNED, WITNESSES["Y1"], 9)]))
    assert replace(POLICY, quorum="X1").open_checkpoint(twice).witnesses == (("X1", 9),)


def test_both_kinds_of_cosignature_count():
    text = with_lines(
        LOG_LINE, X1, f"witness m {LATTICE.verify_key.text}", "group g all X1 m", "quorum g"
    )
    policy = Policy.parse(text)
    assert Policy.parse(policy.text()) == policy
    assert policy.open_checkpoint(cosigned({"X1": 3, "lattice": 5})).witnessed_at == 3
    with pytest.raises(TrustError, match="not by 'm'"):
        policy.open_checkpoint(cosigned({"X1": 3}))


def test_a_policy_can_ask_for_the_logs_own_second_signature():
    own = CosigningKey.from_seed(LOG.name, b"q" * 32, COSIGNATURE_MLDSA)
    policy = Policy.parse(
        with_lines(LOG_LINE, f"witness post-quantum {own.verify_key.text}", "quorum post-quantum")
    )
    assert policy.open_checkpoint(attach(SIGNED, [cosign(SIGNED, own, 11)])).witnessed_at == 11
    with pytest.raises(TrustError, match="not by 'post-quantum'"):
        policy.open_checkpoint(SIGNED)
    # And whoever broke Ed25519 has not broken the other.
    forged = CosigningKey.from_seed(LOG.name, b"f" * 32, COSIGNATURE_MLDSA)
    with pytest.raises(TrustError):
        policy.open_checkpoint(attach(SIGNED, [cosign(SIGNED, forged, 11)]))


def test_one_of_several_logs_must_have_signed_in_its_own_name():
    both = Policy.of(LOG.verify_key, OTHER.verify_key)
    assert both.open_checkpoint(SIGNED).key == LOG.verify_key
    assert both.open_checkpoint(checkpoints.sign(replace(HEAD, origin=OTHER.name), OTHER))
    with pytest.raises(TrustError, match="no known key"):
        Policy.of(OTHER.verify_key).open_checkpoint(SIGNED)
    with pytest.raises(NoteError, match="is not the name of the key"):
        both.open_checkpoint(note.sign(HEAD.text(), [OTHER]))
    with pytest.raises(TrustError):
        Policy.of().open_checkpoint(SIGNED)


def test_a_changed_checkpoint_is_refused():
    data = cosigned({"X1": 10, "X3": 20, "Y2": 30})
    assert POLICY.open_checkpoint(data)
    for place in range(0, len(data), 7):
        damaged = bytearray(data)
        damaged[place] ^= 1
        # One changed byte of a line can make its key unknown: then the quorum is lacking.
        with pytest.raises((NoteError, SignatureError, TrustError)):
            POLICY.open_checkpoint(bytes(damaged))


def nested(policy: Policy, name: str, present: set[str]) -> bool:
    """The definition, read from the quorum down."""
    group = next((item for item in policy.groups if item.name == name), None)
    if group is None:
        return name in present
    return sum(nested(policy, item, present) for item in group.members) >= group.threshold


def test_every_set_of_witnesses_is_judged_as_the_definition_says():
    for count in range(len(WITNESSES) + 1):
        for present in itertools.combinations(WITNESSES, count):
            seen = seen_by(POLICY.groups, present)
            assert ("X-and-Y" in seen) == nested(POLICY, "X-and-Y", set(present))


@given(st.dictionaries(st.sampled_from(list(WITNESSES)), st.integers(0, 5)))
def test_a_quorum_vouches_since_the_latest_time_that_has_one(times: dict[str, int]):
    vouched = [
        moment
        for moment in range(6)
        if nested(POLICY, "X-and-Y", {name for name, time in times.items() if time >= moment})
    ]
    assert POLICY._witnessed_at(times) == (max(vouched) if vouched else None)


@given(st.data())
def test_any_policy_survives_being_written(data: st.DataObject):
    names = data.draw(st.lists(st.sampled_from(list(WITNESSES)), unique=True))
    witnesses = tuple(
        Witness(name, WITNESSES[name].verify_key, data.draw(st.sampled_from([None, "http://x"])))
        for name in names
    )
    free, groups = list(names), []
    for number in range(data.draw(st.integers(0, 3))):
        if not free:
            break
        members = tuple(data.draw(st.lists(st.sampled_from(free), min_size=1, unique=True)))
        groups.append(Group(f"g{number}", data.draw(st.integers(1, len(members))), members))
        free = [name for name in free if name not in members] + [f"g{number}"]
    quorum = data.draw(st.sampled_from([NONE, *names, *(group.name for group in groups)]))
    policy = Policy((LOG.verify_key,), witnesses, tuple(groups), quorum)
    assert Policy.parse(policy.text()) == policy


@given(st.binary(max_size=60), st.integers(0, len(TEXT)))
def test_damaged_policies_are_refused_or_read_but_nothing_else(damage: bytes, place: int):
    data = TEXT.encode()
    try:
        policy = Policy.parse(data[:place] + damage + data[place:])
    except PolicyError:
        return
    assert Policy.parse(policy.text()) == policy


def test_refusals_are_typed():
    assert issubclass(PolicyError, LedgerError)
    assert not issubclass(PolicyError, InvalidKeyError)
