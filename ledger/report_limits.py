"""What an audit of the ledger assumes, and what it cannot see: the same words in every report."""

from __future__ import annotations

LIMITS: tuple[tuple[str, str], ...] = (
    (
        "keys",
        (
            "The keys of the log, its witnesses and the participants came from elsewhere and "
            "belong to whom they name. Whoever stole a key signs in its owner's name until it "
            "is revoked."
        ),
    ),
    (
        "freshness",
        (
            "Without a quorum of witnesses, nothing shows that a checkpoint is the newest, or "
            "that others were shown the same log. With one, a quorum would have to lie "
            "together."
        ),
    ),
    (
        "disclosure",
        (
            "Of an entry that stayed sealed only kind, time and references were checked. Rules "
            "that rest on sealed statements were not, and are counted as unchecked."
        ),
    ),
    (
        "outside",
        (
            "A node that colludes with a researcher outside the measured program leaves no "
            "trace in log or journal. Closes and journals show what a node admits to."
        ),
    ),
    (
        "node_word",
        (
            "Row counts, measurements, data quality and code digests are the node's word. A "
            "provider can list invented data, and a node can shift a sum within the agreed "
            "bounds."
        ),
    ),
    (
        "results",
        (
            "The log holds digests of results and contributions, not the values: that an answer "
            "is right is checked by its researcher, who holds the contributions."
        ),
    ),
    (
        "money",
        (
            "Bills are compared with the agreed prices and with each other. Whether anybody "
            "paid is not in the log."
        ),
    ),
    (
        "refusal",
        (
            "The operator can refuse service, delay entries and keep statements out of the log "
            "before they enter it. What never entered can only be shown by whoever has the "
            "other half: a journal, a planted job, a receipt that was kept."
        ),
    ),
    (
        "erasure",
        (
            "Erased statements were destroyed by the word of the log. Copies that were "
            "disclosed before stay with whoever got them."
        ),
    ),
    (
        "identity",
        (
            "One person can control several participants. The roster says which keys were "
            "vouched for, not who is behind them."
        ),
    ),
)
