"""The dictionary attack: two complete candidates, everything an export shows, and no view key.

In each trial the operator logs one of two statements, by a coin. The attacker holds both, with
their signatures, and the public export with every opening sealed. It looks for anything that fits
one candidate and not the other: ids and digests anywhere in the folder, commitments under every
salt that it can think of or find, keys that it finds, lengths. Where nothing fits it guesses by
whatever bits it sees. It wins no more often than the coin allows; with a view key, without the
salt, without the padding or with a statement that names the id it always wins.

What the game keeps equal for both candidates is what a log shows by design: the kind, the time, the
references and, for long statements, the power of two that the length fits in.
"""

import base64
import hashlib
import random
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import comb
from pathlib import Path

import pytest

from ledger.encoding import digest, parse
from ledger.entry import Entry, commitment
from ledger.errors import LedgerError
from ledger.export import Extras
from ledger.ids import statement_id
from ledger.sealing import SealedOpenings, ViewKeys, public
from ledger.statements import Agreement, read
from ledger.tiles import decode_bundle
from ledger.views import KEY_BYTES, Sealed, Views
from tests.forgery import read_files
from tests.world import World

TRIALS = 64
WORLDS = 4
CONFIDENCE = 1e-6
Candidates = tuple[bytes, bytes]
_BASE64 = re.compile(rb"[A-Za-z0-9+/]{40,}={0,2}")


@dataclass
class Game:
    """One world: which entries were chosen by a coin, between which candidates, and how it fell."""

    world: World
    entries: list[int]
    candidates: list[Candidates]
    coins: list[int]

    def export(self, path: Path, *, also: Sequence[int] = ()) -> dict[str, bytes]:
        """The files of an export that opens what is public and seals the rest."""
        opened = sorted({*public(self.world.log.history), *also})
        rest = set(range(self.world.log.size)) - set(opened)
        lines = SealedOpenings(self.world.log, ViewKeys(self.world.engine), rest)
        return read_files(self.world.export(path, opened, extras=Extras(sealed=lines)))

    def won(self, guesses: Sequence[int]) -> int:
        return sum(guess == coin for guess, coin in zip(guesses, self.coins, strict=True))


def play(
    folder: Path, seed: int, make: Callable[[World, int], Candidates], trials: int = TRIALS
) -> Game:
    world, random_ = World(folder, providers=2), random.Random(seed)
    game = Game(world, [], [], [])
    for number in range(trials):
        pair, coin = make(world, number), random_.getrandbits(1)
        logged = world.put(pair[coin])
        game.entries.append(world.log.index_of(logged))
        game.candidates.append(pair)
        game.coins.append(coin)
    return game


def jobs(world: World, number: int) -> Candidates:
    """Two requests of one moment for the same data: what for, and with which columns?"""
    first = world.job(purpose="research", name=f"job {number}", nonce=f"{number}")
    second = replace(first, task="logistic", parameters={"columns": ["age"], "outcome": "chol"})
    return world.sign(first), world.sign(second)


def long_and_short_jobs(world: World, number: int) -> Candidates:
    first = world.job(name=f"job {number}", nonce=f"{number}")
    second = replace(first, parameters={"columns": [f"column {item}" for item in range(40)]})
    return world.sign(first), world.sign(second)


def agreements(world: World, number: int) -> Candidates:
    first = world.agreement(world.providers[0], issued=world.clock() + number)
    return world.sign(first), world.sign(replace(first, price_cents=500, fee_ppm=1))


class Attacker:
    """Everything that can be told from a folder, without a key.

    Args:
        files: the export.
        keys: view keys, for the twin that holds them.
    """

    def __init__(self, files: dict[str, bytes], keys: Views | None = None) -> None:
        self.files = files
        self.keys = keys
        self.everything = b"\n".join(files.values())
        decoded = list(_decoded(self.everything))
        # Statements carry base64 inside base64.
        decoded += [inner for text in list(decoded) for inner in _decoded(text)]
        self.texts = [self.everything, *decoded]
        self.haystack = b"\n".join(self.texts)
        self.guessable = _guessable(self.haystack)
        self.sealed = {}
        for path, data in files.items():
            if path.startswith("sealed/"):
                for line in data.splitlines():
                    self.sealed[parse(line, limit=1 << 22)["index"]] = line
        self.leaves: list[Entry] = []
        for path, data in sorted(files.items()):
            if path.startswith("tile/entries/"):
                width = int(path.rpartition("/")[2]) if ".p/" in path else 256
                self.leaves += [Entry.from_bytes(item) for item in decode_bundle(data, width)]

    def guess(self, index: int, pair: Candidates) -> tuple[int, bool]:
        """The candidate behind an entry, and whether there was any evidence for it."""
        entry = self.leaves[index]
        for test in (self._named, self._committed, self._opened, self._length):
            fits = [test(entry, candidate) for candidate in pair]
            if fits[0] != fits[1]:
                return fits.index(True), True
        # Nothing fits one alone: some function of all that is there, of both candidates.
        seen = entry.to_bytes() + self.sealed.get(index, b"") + pair[0] + pair[1]
        return hashlib.sha256(seen).digest()[0] & 1, False

    def _named(self, entry: Entry, candidate: bytes) -> bool:
        """Its id, a digest of it or a part of it stands somewhere."""
        body = read(candidate)
        plain = hashlib.sha256(candidate).digest()
        digests = [plain, digest("rongshu/commitment/v1", candidate)]
        marks = [statement_id(entry.kind, candidate).encode(), body.id[-64:].encode(), candidate]
        marks += [base64.b64encode(candidate), parse(candidate)["payload"].encode()]
        marks += [form for item in digests for form in (item, item.hex().encode())]
        return any(mark in self.haystack for mark in marks)

    def _committed(self, entry: Entry, candidate: bytes) -> bool:
        """It is what the entry commits to, under some salt that stands in the export."""
        salts = [*self.guessable, hashlib.sha256(candidate).digest(), entry.previous]
        return any(commitment(salt, candidate) == entry.commitment for salt in salts)

    def _opened(self, entry: Entry, candidate: bytes) -> bool:
        """The sealed opening opens to it: with a key that was handed out, or stands in the open."""
        if entry.index not in self.sealed:
            return False
        sealed = Sealed.from_bytes(self.sealed[entry.index])
        held = [] if self.keys is None else [self.keys]
        # A handful of what stands there is tried as a key: each try costs a decryption.
        tried = self.guessable[:3]
        held += [Views("log", dict.fromkeys(sealed.views, key)) for key in tried]
        for views in held:
            try:
                if sealed.open(entry, views).envelope == candidate:
                    return True
            except LedgerError:
                continue
        return False

    def _length(self, entry: Entry, candidate: bytes) -> bool:
        """Sealed by anybody, it would be as long as what is there."""
        if entry.index not in self.sealed:
            return False
        there = len(Sealed.from_bytes(self.sealed[entry.index]).box)
        return there in (_boxed(candidate), 4 + 32 + len(candidate) + 16)


def _boxed(candidate: bytes) -> int:
    size = 4096
    while size < 4 + 32 + len(candidate):
        size *= 2
    return size + 16


def _decoded(text: bytes) -> Iterator[bytes]:
    for found in _BASE64.findall(text):
        if len(found) < 100_000 and len(found) % 4 == 0:
            yield base64.b64decode(found)


def _guessable(haystack: bytes) -> list[bytes]:
    """Every 32 bytes that stand somewhere as a value, and the salts of a lazy operator."""
    found = {bytes(KEY_BYTES), b"\xff" * KEY_BYTES, hashlib.sha256(b"").digest()}
    found |= {bytes.fromhex(item.decode()) for item in re.findall(rb"[0-9a-f]{64}", haystack)}
    for item in _BASE64.findall(haystack):
        if len(item) == 44 and item.endswith(b"="):
            found.add(base64.b64decode(item))
    first = bytes(KEY_BYTES)
    return [first, *sorted(found - {first})]


def attack(game: Game, attacker: Attacker) -> tuple[int, int]:
    """How many coins were guessed, and for how many there was evidence."""
    found = [
        attacker.guess(index, pair)
        for index, pair in zip(game.entries, game.candidates, strict=True)
    ]
    return game.won([guess for guess, _ in found]), sum(sure for _, sure in found)


def most_by_chance(trials: int, confidence: float = CONFIDENCE) -> int:
    """The most wins that a fair coin gives, but for a chance of `confidence`: exact binomial."""
    tail, wins = 0, trials + 1
    while tail / 2**trials <= confidence:
        wins -= 1
        tail += comb(trials, wins)
    return wins


def test_the_bound_is_exact():
    # 3 coins: all right by chance in 1 of 8; 10 coins: 9 or more in 11 of 1024.
    assert most_by_chance(3, 0.1) == 3
    assert most_by_chance(3, 0.13) == 2
    assert most_by_chance(10, 11 / 1024) == 8
    assert most_by_chance(TRIALS * WORLDS) < TRIALS * WORLDS * 0.66


@pytest.fixture(scope="module")
def games(tmp_path_factory: pytest.TempPathFactory) -> list[Game]:
    folder = tmp_path_factory.mktemp("games")
    return [play(folder / f"{seed}", seed, jobs) for seed in range(WORLDS)]


def test_without_a_view_key_the_attacker_does_no_better_than_chance(
    games: list[Game], tmp_path: Path
):
    wins = evidence = 0
    for number, game in enumerate(games):
        won, sure = attack(game, Attacker(game.export(tmp_path / f"{number}")))
        wins, evidence = wins + won, evidence + sure
    assert evidence == 0
    trials = TRIALS * WORLDS
    assert trials - most_by_chance(trials) <= wins <= most_by_chance(trials)


def test_the_twin_with_the_view_keys_always_wins(games: list[Game], tmp_path: Path):
    game = games[0]
    views = ViewKeys(game.world.engine).views(game.world.log)
    assert attack(game, Attacker(game.export(tmp_path / "export"), views)) == (TRIALS, TRIALS)


def test_the_twin_with_the_keys_of_another_agreement_does_not(games: list[Game], tmp_path: Path):
    game = games[0]
    asked = [game.world.log.index_of(item.agreement) for item in game.world.providers]
    views = ViewKeys(game.world.engine).views(game.world.log, agreements=[max(asked) + 1])
    _, evidence = attack(game, Attacker(game.export(tmp_path / "export"), views))
    assert evidence == 0


@pytest.mark.parametrize("salt", [bytes(32), hashlib.sha256(b"").digest()])
def test_the_twin_without_a_salt_always_loses_to_the_attacker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, salt: bytes
):
    monkeypatch.setattr("ledger.store.secrets.token_bytes", lambda _size: salt)
    game = play(tmp_path / "world", 7, jobs, trials=24)
    monkeypatch.undo()
    assert attack(game, Attacker(game.export(tmp_path / "export"))) == (24, 24)


def test_the_twin_without_padding_loses_to_the_length(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    game = play(tmp_path / "world", 8, jobs, trials=24)
    assert all(len(first) != len(second) for first, second in game.candidates)
    monkeypatch.setattr("ledger.views._bucket", lambda length: 4 + 32 + length)
    files = game.export(tmp_path / "export")
    # What is read strictly is padded; the attacker just looks at how long it is.
    monkeypatch.setattr(Sealed, "from_bytes", _read_loosely)
    assert attack(game, Attacker(files)) == (24, 24)


def _read_loosely(line: bytes) -> Sealed:
    value = parse(line, limit=1 << 22)
    return Sealed(value["index"], base64.b64decode(value["box"]), ())


def test_a_statement_of_another_power_of_two_is_told_by_its_length(tmp_path: Path):
    """What remains visible, as FORMATS and the threat model say."""

    def of_two_sizes(world: World, number: int) -> Candidates:
        first, second = world.job(nonce=f"{number}"), world.job(nonce=f"{number}")
        columns = [f"a long name of column {item}" for item in range(120)]
        second = replace(first, parameters={"columns": columns})
        return world.sign(first), world.sign(second)

    game = play(tmp_path / "world", 9, of_two_sizes, trials=8)
    assert attack(game, Attacker(game.export(tmp_path / "export"))) == (8, 8)
    same = play(tmp_path / "twin", 9, long_and_short_jobs, trials=8)
    assert attack(same, Attacker(same.export(tmp_path / "export of twin")))[1] == 0


def test_ids_in_what_is_open_would_give_a_statement_away(tmp_path: Path):
    """A revocation names the agreement by its id: the public export keeps both closed."""
    game = play(tmp_path / "world", 10, agreements, trials=8)
    world = game.world
    for index in game.entries:
        agreement = world.log.history.by_index[index]
        world.put(world.revoke(world.providers[0], agreement.id))
    assert isinstance(read(game.candidates[0][0]).statement, Agreement)
    assert attack(game, Attacker(game.export(tmp_path / "export")))[1] == 0
    revoked = [entry.index for entry in world.entries() if entry.kind == "revocation"]
    twin = game.export(tmp_path / "twin", also=revoked)
    assert attack(game, Attacker(twin)) == (8, 8)
