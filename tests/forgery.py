"""Exports as a dishonest operator can write them: for lies that a log cannot be made to hold.

    entries = world.entries()
    entries[5] = replace(entries[5], time=0)
    insecure_export(tmp_path / "export", world.log_key, chain(entries), world.openings())

Checkpoint and manifest are signed over whatever is written.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ledger import note
from ledger.checkpoint import Checkpoint
from ledger.checkpoint import sign as sign_checkpoint
from ledger.encoding import canonical
from ledger.entry import NO_PREDECESSOR, Entry, Opening
from ledger.keys import SigningKey
from ledger.manifest import (
    CHECKPOINT,
    CLAIMED_KEY,
    FILE,
    FILES,
    HEADING,
    SPANS,
    File,
    Manifest,
    Openness,
    Table,
    files_table,
    openings_path,
    spans_table,
)
from ledger.merkle import Tree, leaf_hash
from ledger.tiles import WIDTH, layout, tile_bytes
from tests.drafts import START
from tests.world import World


def chain(entries: Iterable[Entry]) -> list[Entry]:
    """The same entries with every predecessor's hash written anew."""
    previous, chained = NO_PREDECESSOR, []
    for entry in entries:
        chained.append(replace(entry, previous=previous))
        previous = leaf_hash(chained[-1].to_bytes())
    return chained


def insecure_export(
    path: Path,
    key: SigningKey,
    entries: Sequence[Entry | bytes],
    openings: Iterable[Opening],
    *,
    opened: Iterable[int] | None = None,
    changed: Mapping[str, bytes] | None = None,
) -> Path:
    """Write a folder as a dishonest operator can: consistent in itself, whatever it says.

    Args:
        path: a new folder.
        key: signs checkpoint and manifest.
        entries: the leaves, unchecked.
        openings: written as they are.
        opened: what the manifest declares open; all that have an opening, unless told otherwise.
        changed: files whose contents are replaced before the manifest is made over them.
    """
    raw = [item if isinstance(item, bytes) else item.to_bytes() for item in entries]
    listed = list(openings)
    tree = Tree.from_leaf_hashes(leaf_hash(data) for data in raw)
    declared = Openness.of(tree.size, [item.index for item in listed] if opened is None else opened)
    contents = {
        CHECKPOINT: sign_checkpoint(Checkpoint(key.name, tree.size, tree.root()), key),
        CLAIMED_KEY: key.verify_key.text.encode() + b"\n",
    }
    for tile in layout(tree.size):
        contents[tile.path] = tile_bytes(tree, tile, lambda start, stop: raw[start:stop])
    for number in range((tree.size + WIDTH - 1) // WIDTH):
        lines = [item.to_bytes() + b"\n" for item in listed if item.index // WIDTH == number]
        if lines:
            contents[openings_path(number)] = b"".join(lines)
    write_files(path, insecure_manifest(key, declared, contents | (changed or {})))
    return path


def repeating(world: World, path: Path, kind: str) -> Path:
    """An export in which the first statement of a kind stands once more at the end."""
    entries, openings = world.entries(), world.openings()
    first = next(item for item in openings if entries[item.index].kind == kind)
    index, time = len(entries), entries[-1].time
    entries.append(replace(entries[first.index], index=index, time=time))
    openings.append(replace(first, index=index))
    return insecure_export(path, world.log_key, chain(entries), openings)


def insecure_manifest(
    key: SigningKey, openness: Openness, contents: Mapping[str, bytes], **changes: Any
) -> dict[str, bytes]:
    """The contents of an export with tables and a signed manifest over them, whatever they say.

    Args:
        key: signs the manifest.
        openness: what the manifest declares open, sealed or erased.
        contents: all other files; tables and a manifest among them are replaced.
        changes: fields of the manifest that are changed before it is signed.
    """
    listed = {n: data for n, data in contents.items() if n not in (FILE, FILES, SPANS)}
    files = files_table(File.of(name, data) for name, data in listed.items())
    spans = spans_table(openness)
    manifest = Manifest(
        origin=key.name,
        size=openness.size,
        created=START,
        scope="everything",
        files=Table.of(files),
        spans=Table.of(spans),
    )
    # Not `Manifest.sign`, which refuses to sign what no verifier accepts.
    text = f"{HEADING}\n{canonical(manifest.payload() | changes).decode()}\n"
    return listed | {FILES: files, SPANS: spans, FILE: note.sign(text, [key])}


def write_files(path: Path, contents: Mapping[str, bytes]) -> None:
    """Write files below a folder that is made where needed."""
    for name, data in contents.items():
        target = path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)


def read_files(path: Path) -> dict[str, bytes]:
    """All files below a folder, by path."""
    return {
        file.relative_to(path).as_posix(): file.read_bytes()
        for file in sorted(path.rglob("*"))
        if file.is_file()
    }
