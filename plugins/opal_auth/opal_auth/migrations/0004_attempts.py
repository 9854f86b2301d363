"""How often a code may be tried is said by the code

Revision ID: auth0004
"""

import sqlalchemy as sa
from alembic import op

revision = "auth0004"
down_revision = "auth0003"

opal_depends_on = {"core": ["core0002"]}  # which says who is active

ATTEMPTS = "ck_auth_one_time_codes_attempts"


def upgrade() -> None:
    with op.batch_alter_table("auth_one_time_codes") as codes:
        codes.add_column(sa.Column("max_attempts", sa.SmallInteger(), nullable=False, server_default="5"))
        codes.drop_constraint(op.f(ATTEMPTS), type_="check")
        codes.create_check_constraint(op.f(ATTEMPTS), "attempts BETWEEN 0 AND max_attempts")
    op.execute(
        "UPDATE auth_one_time_codes SET max_attempts = attempts "
        "WHERE user_id IN (SELECT id FROM users WHERE is_active = false)"
    )


def downgrade() -> None:
    op.execute("UPDATE auth_one_time_codes SET attempts = 5 WHERE attempts > 5")
    with op.batch_alter_table("auth_one_time_codes") as codes:
        codes.drop_constraint(op.f(ATTEMPTS), type_="check")
        codes.create_check_constraint(op.f(ATTEMPTS), "attempts BETWEEN 0 AND 5")
        codes.drop_column("max_attempts")
