"""Make all tables of version 0.1."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlmodel.sql.sqltypes import AutoString

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

TABLES = (
    "participant",
    "api_key",
    "enrolment",
    "asset",
    "offer",
    "negotiation",
    "agreement",
    "agreement_use",
    "job",
    "job_party",
    "job_result",
    "job_contribution",
    "settlement",
    "posting",
    "log_entry",
    "log_pending",
)
"""In the order in which they are made: a table comes after those it refers to."""


def upgrade() -> None:
    """Bring the database to this revision."""
    _participants()
    _catalog()
    _negotiations()
    _agreements()
    _jobs()
    _results()
    _settlement()
    _log()


def downgrade() -> None:
    """Bring the database back to the revision before."""
    for table in reversed(TABLES):
        op.drop_table(table)


def _participants() -> None:
    op.create_table(
        "participant",
        sa.Column("id", AutoString(length=128), nullable=False),
        sa.Column("name", AutoString(length=4096), nullable=False),
        sa.Column("roles", AutoString(length=128), nullable=False),
        sa.Column("public_key", AutoString(length=64), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("revoked", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("public_key"),
    )
    op.create_table(
        "api_key",
        sa.Column("public_id", AutoString(length=32), nullable=False),
        sa.Column("secret_hash", AutoString(length=64), nullable=False),
        sa.Column("participant_id", AutoString(length=128), nullable=False),
        sa.Column("scopes", AutoString(length=128), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("ended", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["participant_id"], ["participant.id"]),
        sa.PrimaryKeyConstraint("public_id"),
    )
    op.create_index("ix_api_key_participant_id", "api_key", ["participant_id"])
    op.create_table(
        "enrolment",
        sa.Column("code_hash", AutoString(length=64), nullable=False),
        sa.Column("roles", AutoString(length=128), nullable=False),
        sa.Column("note", AutoString(length=4096), nullable=False),
        sa.Column("expires", sa.BigInteger(), nullable=False),
        sa.Column("used", sa.BigInteger(), nullable=True),
        sa.Column("participant_id", AutoString(length=128), nullable=True),
        sa.ForeignKeyConstraint(["participant_id"], ["participant.id"]),
        sa.PrimaryKeyConstraint("code_hash"),
    )


def _catalog() -> None:
    op.create_table(
        "asset",
        sa.Column("id", AutoString(length=128), nullable=False),
        sa.Column("provider_id", AutoString(length=128), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("uses", sa.BigInteger(), nullable=False),
        sa.Column("revoked", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["provider_id"], ["participant.id"]),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_asset_provider_id", "asset", ["provider_id"])
    op.create_table(
        "offer",
        sa.Column("id", AutoString(length=128), nullable=False),
        sa.Column("asset_id", AutoString(length=128), nullable=False),
        sa.Column("provider_id", AutoString(length=128), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("revoked", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["asset_id"], ["asset.id"]),
        sa.ForeignKeyConstraint(["provider_id"], ["participant.id"]),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_offer_asset_id", "offer", ["asset_id"])
    op.create_index("ix_offer_provider_id", "offer", ["provider_id"])


def _negotiations() -> None:
    op.create_table(
        "negotiation",
        sa.Column("id", AutoString(length=128), nullable=False),
        sa.Column("offer_id", AutoString(length=128), nullable=False),
        sa.Column("asset_id", AutoString(length=128), nullable=False),
        sa.Column("provider_id", AutoString(length=128), nullable=False),
        sa.Column("researcher_id", AutoString(length=128), nullable=False),
        sa.Column("state", AutoString(length=16), nullable=False),
        sa.Column("terms", AutoString(), nullable=False),
        sa.Column("preparation", AutoString(), nullable=False),
        sa.Column("price_cents", sa.BigInteger(), nullable=False),
        sa.Column("proposal", sa.LargeBinary(), nullable=True),
        sa.Column("agreement_id", AutoString(length=128), nullable=True),
        sa.Column("reason", AutoString(length=4096), nullable=True),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("updated", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("price_cents >= 0", name="ck_negotiation_price"),
        sa.ForeignKeyConstraint(["asset_id"], ["asset.id"]),
        sa.ForeignKeyConstraint(["offer_id"], ["offer.id"]),
        sa.ForeignKeyConstraint(["provider_id"], ["participant.id"]),
        sa.ForeignKeyConstraint(["researcher_id"], ["participant.id"]),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_negotiation_asset_id", "negotiation", ["asset_id"])
    op.create_index("ix_negotiation_offer_id", "negotiation", ["offer_id"])
    op.create_index("ix_negotiation_provider_id", "negotiation", ["provider_id"])
    op.create_index("ix_negotiation_researcher_id", "negotiation", ["researcher_id"])


def _agreements() -> None:
    op.create_table(
        "agreement",
        sa.Column("id", AutoString(length=128), nullable=False),
        sa.Column("negotiation_id", AutoString(length=128), nullable=False),
        sa.Column("asset_id", AutoString(length=128), nullable=False),
        sa.Column("provider_id", AutoString(length=128), nullable=False),
        sa.Column("researcher_id", AutoString(length=128), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("revoked", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["asset_id"], ["asset.id"]),
        sa.ForeignKeyConstraint(["negotiation_id"], ["negotiation.id"]),
        sa.ForeignKeyConstraint(["provider_id"], ["participant.id"]),
        sa.ForeignKeyConstraint(["researcher_id"], ["participant.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("negotiation_id"),
    )
    op.create_index("ix_agreement_asset_id", "agreement", ["asset_id"])
    op.create_index("ix_agreement_provider_id", "agreement", ["provider_id"])
    op.create_index("ix_agreement_researcher_id", "agreement", ["researcher_id"])
    op.create_table(
        "agreement_use",
        sa.Column("agreement_id", AutoString(length=128), nullable=False),
        sa.Column("job_id", AutoString(length=128), nullable=False),
        sa.Column("asset_id", AutoString(length=128), nullable=False),
        sa.Column("state", AutoString(length=16), nullable=False),
        sa.Column("changed", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("state IN ('reserved', 'spent', 'returned')", name="ck_use_state"),
        sa.ForeignKeyConstraint(["agreement_id"], ["agreement.id"]),
        sa.ForeignKeyConstraint(["asset_id"], ["asset.id"]),
        sa.PrimaryKeyConstraint("agreement_id", "job_id"),
    )
    op.create_index("ix_agreement_use_job_id", "agreement_use", ["job_id"])


def _jobs() -> None:
    op.create_table(
        "job",
        sa.Column("id", AutoString(length=128), nullable=False),
        sa.Column("researcher_id", AutoString(length=128), nullable=False),
        sa.Column("name", AutoString(length=4096), nullable=False),
        sa.Column("task", AutoString(length=4096), nullable=False),
        sa.Column("purpose", AutoString(length=4096), nullable=False),
        sa.Column("state", AutoString(length=16), nullable=False),
        sa.Column("fence", sa.BigInteger(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("lease_until", sa.BigInteger(), nullable=True),
        sa.Column("progress", AutoString(), nullable=False),
        sa.Column("error_reason", AutoString(length=64), nullable=True),
        sa.Column("error_message", AutoString(length=4096), nullable=True),
        sa.Column("release_id", AutoString(length=128), nullable=True),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("finished", sa.BigInteger(), nullable=True),
        sa.CheckConstraint("fence >= 0", name="ck_job_fence"),
        sa.ForeignKeyConstraint(["researcher_id"], ["participant.id"]),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_job_researcher_id", "job", ["researcher_id"])
    op.create_index("ix_job_state", "job", ["state"])
    op.create_table(
        "job_party",
        sa.Column("job_id", AutoString(length=128), nullable=False),
        sa.Column("asset_id", AutoString(length=128), nullable=False),
        sa.Column("agreement_id", AutoString(length=128), nullable=False),
        sa.Column("provider_id", AutoString(length=128), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("state", AutoString(length=16), nullable=False),
        sa.Column("reason", AutoString(length=64), nullable=True),
        sa.Column("grant_id", AutoString(length=128), nullable=True),
        sa.Column("receipt_id", AutoString(length=128), nullable=True),
        sa.ForeignKeyConstraint(["agreement_id"], ["agreement.id"]),
        sa.ForeignKeyConstraint(["asset_id"], ["asset.id"]),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"]),
        sa.ForeignKeyConstraint(["provider_id"], ["participant.id"]),
        sa.PrimaryKeyConstraint("job_id", "asset_id"),
        sa.UniqueConstraint("grant_id"),
        sa.UniqueConstraint("receipt_id"),
    )
    op.create_index("ix_job_party_agreement_id", "job_party", ["agreement_id"])
    op.create_index("ix_job_party_asset_id", "job_party", ["asset_id"])
    op.create_index("ix_job_party_provider_id", "job_party", ["provider_id"])


def _results() -> None:
    op.create_table(
        "job_result",
        sa.Column("job_id", AutoString(length=128), nullable=False),
        sa.Column("document", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"]),
        sa.PrimaryKeyConstraint("job_id"),
    )
    op.create_table(
        "job_contribution",
        sa.Column("job_id", AutoString(length=128), nullable=False),
        sa.Column("asset_id", AutoString(length=128), nullable=False),
        sa.Column("round", sa.Integer(), nullable=False),
        sa.Column("request", sa.LargeBinary(), nullable=False),
        sa.Column("reply", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["asset_id"], ["asset.id"]),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"]),
        sa.PrimaryKeyConstraint("job_id", "asset_id", "round"),
    )


def _settlement() -> None:
    op.create_table(
        "settlement",
        sa.Column("id", AutoString(length=128), nullable=False),
        sa.Column("job_id", AutoString(length=128), nullable=False),
        sa.Column("researcher_id", AutoString(length=128), nullable=False),
        sa.Column("total_cents", sa.BigInteger(), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"]),
        sa.ForeignKeyConstraint(["researcher_id"], ["participant.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("job_id"),
    )
    op.create_index("ix_settlement_researcher_id", "settlement", ["researcher_id"])
    op.create_table(
        "posting",
        sa.Column("settlement_id", AutoString(length=128), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("account", AutoString(length=256), nullable=False),
        sa.Column("amount_cents", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["settlement_id"], ["settlement.id"]),
        sa.PrimaryKeyConstraint("settlement_id", "position"),
    )
    op.create_index("ix_posting_account", "posting", ["account"])


def _log() -> None:
    op.create_table(
        "log_entry",
        sa.Column("index", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("statement_id", sa.String(length=128), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.Column("envelope", sa.LargeBinary(), nullable=False),
        sa.Column("salt", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("index"),
        sa.UniqueConstraint("statement_id"),
    )
    op.create_table(
        "log_pending",
        sa.Column(
            "sequence",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("statement_id", sa.String(length=128), nullable=False),
        sa.Column("envelope", sa.LargeBinary(), nullable=False),
        sa.Column("salt", sa.LargeBinary(), nullable=False),
        sa.Column("received", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("sequence"),
        sa.UniqueConstraint("statement_id"),
        sqlite_autoincrement=True,
    )
