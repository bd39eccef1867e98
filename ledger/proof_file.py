"""What the files of proofs have in common: lines, a blank line, and the checkpoint they lead to.

    data = proof_file.write("c2sp.org/tlog-proof@v1", [b"index 4"], checkpoint, MAX_BYTES)
    lines, checkpoint = proof_file.read(data, "c2sp.org/tlog-proof@v1", MAX_BYTES)

Decides where a file is cut, and how long it may be. What the lines mean is decided by each kind of
proof; the checkpoint is a signed note, which is not looked at here.
"""

from __future__ import annotations

from collections.abc import Iterable

from ledger.errors import ProofError


def write(heading: str, lines: Iterable[bytes], checkpoint: bytes, limit: int) -> bytes:
    """Write a proof as a file.

    Args:
        heading: its first line, which names the format.
        lines: what follows before the blank line, without their ends.
        checkpoint: the signed note.
        limit: most bytes that are read back.

    Raises:
        ProofError: it would be longer than that.
    """
    head = b"".join(line + b"\n" for line in (heading.encode(), *lines))
    data = head + b"\n" + checkpoint
    _check_length(data, limit)
    return data


def read(data: bytes, heading: str, limit: int) -> tuple[list[bytes], bytes]:
    """Return the lines of a proof, its heading first, and its checkpoint.

    Raises:
        ProofError: longer than the limit, of another format, or without a checkpoint.
    """
    _check_length(data, limit)
    head, blank, checkpoint = data.partition(b"\n\n")
    lines = head.split(b"\n")
    if lines[0] != heading.encode():
        raise ProofError(f"line 1 of the proof is not {heading}")
    if not blank:
        raise ProofError("the proof has no blank line followed by a checkpoint")
    return lines, checkpoint


def _check_length(data: bytes, limit: int) -> None:
    if len(data) > limit:
        raise ProofError(f"a proof of {len(data)} bytes is longer than the {limit} allowed")
