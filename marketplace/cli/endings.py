"""What to do about a job that ended without a result: one sentence for each reason word.

    for line in advice(view):
        print(line)      # "what to do", "  North (no_reply): its node did not answer in time; …"

The words are those of refusals and failures in `ledger.statements`, of the coordinator, of the
tasks, and of the service itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

ASK = "ask its provider, and submit the job again"
AGREE = "negotiate an agreement that permits it: rongshu negotiate start"

BY_REASON: Mapping[str, str] = {
    # Refusals.
    "purpose_not_allowed": f"the terms do not permit it, or the provider declined; {AGREE}",
    "quota_used_up": f"the agreement has no use left; {AGREE}",
    "agreement_expired": f"the agreement or the grant has run out; {AGREE}",
    "code_unknown": "its node runs another version of this computation; both sides update",
    "grant_mismatch": "the grant does not fit the job; submit it again, and it is granted anew",
    "not_proven": "its node does not find the job proven in the log; submit it again in a while, "
    "and tell the operator if it stays so",
    "revoked": f"what it rests on was revoked; {AGREE}",
    "row_selection_not_allowed": "the agreement fixes other rows; use those, or negotiate anew",
    "log_split": "its node was shown two histories of the log: do not go on, tell an auditor",
    "log_stale": "its node gets no fresh checkpoint; tell the operator",
    "log_rolled_back": "the log lost entries that its node has seen: tell the operator and an "
    "auditor",
    # Failures of a node.
    "bad_data": f"its data do not fit the data card; {ASK}",
    "data_changed": "its file is not the one that was measured; its provider lists it again",
    "internal": "an unexpected error, whose details stay there; tell its provider or the operator",
    "isolating_parameters": "the parameters could single out a row; choose wider ones",
    "out_of_bounds": "values lie outside the bounds; choose wider bounds or other columns",
    "task_error": "the computation is not possible on its rows; choose other columns or rows",
    "no_reply": f"its node did not answer in time; {ASK} when it runs",
    "node_error": f"its node stopped with an error; {ASK}",
    "lost": f"its node went away during the computation; {ASK} when it runs",
    "duplicate": f"its node answered twice; {ASK}",
    "malformed": f"its node's answer cannot be read; {ASK}",
    "unexpected": f"its node answered something else than was asked; {ASK}",
    "wrong_parcels": f"its node wrote to somebody who is not of the job; {ASK}",
    "wrong_place": f"its node's answer belongs to another job or round; {ASK}",
    "wrong_report": f"its node's report cannot be read; {ASK}",
    "bad_parcel": "what the other node sent it does not fit the agreement; ask both providers",
    "bad_model": "its file is no model, with columns feature and weight and a row (intercept); "
    "ask its provider",
    "other_features": "the model takes other features; name those that its provider describes",
    "no_input": "what you handed in did not come to its node, or was kept no more; hand it in and "
    "submit the job again",
    "bad_input": "its node got something else than the job names, or what cannot be computed on; "
    "submit it again, and tell the operator if it stays so",
    "child_died": "the process in which its node computed ended early, or took too much memory or "
    f"time; {ASK}",
    "too_few": "too few rows, or too few in common, for what the agreement says; nothing is told",
    "reply_too_long": "its reply is longer than the service takes; use fewer rows, or ask the "
    "operator whether RONGSHU_MAX_REPLY_BYTES is lowered",
    "sidecar_failed": "its sidecar did not do its part; its provider sees why in the node's log",
    "bad_lease": "its node does not take the request for the operator's; ask its provider whether "
    "it can read the log, and tell the operator",
    "stale_lease": "its node follows another coordinator of this job; submit the job again, and "
    "tell the operator if it stays so",
    "bad_mask_key": f"its node's key for this job does not verify; {ASK}",
    "bad_survivors": f"its node's list of who took part does not verify; {ASK}",
    "bad_shares": "what it or others dealt for this job does not fit its keys: tell the operator",
    "restarted": f"its node was started anew during the computation; {ASK} when it runs",
    "not_enrolled": "its node has not enrolled for computing; its provider runs `rongshu node "
    "enrol`",
    "bad_receipt": f"its node's receipt is not of what it sent; {ASK}",
    # Ends that the service decided.
    "no_answer": "neither grant nor refusal came in time; ask its provider whether its node runs "
    "or decides by hand, and submit the job again, or without it",
    "no_receipt": f"its node's receipt did not reach the log in time; {ASK} and whether its clock "
    "is right",
    "release_refused": "the operator's checks held the result back; nothing was billed, tell the "
    "operator",
}
"""What a reason means, and what to do about it; of a party, or of the job where no party has it."""

SILENT = ("stopped", "cancelled")
"""Reasons that say only that somebody or something else ended the job."""


def advice(view: Mapping[str, Any]) -> list[str]:
    """Return what to do about a job that ended without a result; no line for any other.

    Args:
        view: the job, as the service shows it.
    """
    error = view["error"]
    if not error:
        return []
    blamed = [
        (party["provider_name"], party["reason"])
        for party in view["parties"]
        if party["reason"] and party["reason"] not in SILENT
    ]
    if error["reason"] == "cancelled":
        return ["nothing is billed, and uses that no node has spent are yours again"]
    blamed = blamed or [("the job", error["reason"])]
    return ["what to do", *(f"  {name} ({reason}): {_of(reason)}" for name, reason in blamed)]


def _of(reason: str) -> str:
    return BY_REASON.get(reason, "change what the message names, and submit the job again")
