"""A holder of a share: makes its part of a released sum, and of nothing else.

    holder = KeyHolder(Home.load(folder))
    partial = holder.decrypt(job, KeyShare.load(folder / "key.share"))
    write_partial(folder / "overview.partial", job, partial)      # handed to the buyer alone

Decides what a share is used on. Whoever raises what it is handed opens a single contribution for
whoever hands it one; so a holder reads the log and the job's evidence itself, adds the receipted
contributions itself, and makes its part of *that* sum. What it does not do: bring its part to the
buyer. It must not pass the operator, who has the ciphertexts and needs but two parts.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from ledger.ids import parse_id
from marketplace.client import Client
from marketplace.errors import MarketplaceError
from marketplace.gathering import gather
from marketplace.recompute import receipted_sum
from privacy.paillier import KeyShare, PartialDecryption, PublicKey, decrypt_partially
from privacy.secret_file import read_secret, write_secret

KIND: Final = "rongshu/partial-decryption/v1"
_LONGEST = 64 << 20


class HolderError(MarketplaceError):
    """A share is not for this job, or a file is no partial decryption of it."""

    default_code = "key_holder"


class KeyHolder(Client):
    """What a party with a share of a key can do."""

    def decrypt(self, job_id: str, share: KeyShare) -> PartialDecryption:
        """Make this holder's part of a job's released sum, after adding the sum up oneself.

        Raises:
            HolderError: the share is another's, or the job is not under its key.
            ResultError: the released sum is not that of the receipted contributions, the log shows
                no release, or one that breaks a rule.
            ClientError: there is no result yet, or not for this party.
        """
        if share.holder != self.home.participant():
            raise HolderError("this share is another participant's")
        released, evidence = gather(self.call, self.log, job_id)
        if evidence.job.encryption_key != share.key.to_json():
            raise HolderError("the job was signed with another key than this share is of")
        return decrypt_partially(share, receipted_sum(evidence, released))


def write_partial(path: Path, job_id: str, partial: PartialDecryption) -> None:
    """Write a part to a new file that only its owner can read: two of them open the sum.

    Raises:
        KeyFileError: the path exists, or cannot be written.
    """
    value = {"kind": KIND, "job": job_id, "partial": partial.to_json()}
    write_secret(path, json.dumps(value, sort_keys=True, separators=(",", ":")).encode() + b"\n")


def read_partial(path: Path, job_id: str, public: PublicKey) -> PartialDecryption:
    """Read what `write_partial` wrote; not verified yet.

    Args:
        path: of the file.
        job_id: the job that it must be about.
        public: the public half of the job's key.

    Raises:
        HolderError: it is something else, or about another job.
        KeyFileError: it cannot be read, or others can read it.
        PartialDecryptionError: what is in it is no partial decryption.
    """
    try:
        value = json.loads(read_secret(path, longest=_LONGEST))
    except (ValueError, RecursionError):
        raise HolderError(f"{path} is no {KIND}") from None
    if not isinstance(value, dict) or set(value) != {"kind", "job", "partial"}:
        raise HolderError(f"{path} is no {KIND}")
    if value["kind"] != KIND or value["job"] != job_id:
        raise HolderError(f"{path} is about another job")
    return PartialDecryption.from_json(value["partial"], public)


def check_holder(name: str) -> str:
    """Return the id of a participant who may hold a share.

    Raises:
        HolderError, EncodingError: it is none.
    """
    kind, _ = parse_id(name)
    if kind != "participant":
        raise HolderError("a holder is named by a participant id, as `rongshu enrol` prints it")
    return name
