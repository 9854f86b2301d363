"""All rules."""

from opal_registry.migrations.lint import columns, constraints, contracts, indexes, transactions
from opal_registry.migrations.lint.finding import Rule, everywhere

WAIVERS = (
    Rule(
        "opal.M401",
        "warning",
        "a waiver without a reason",
        everywhere("whoever reads it next has to find out all over again whether it is true"),
    ),
    Rule("opal.M402", "warning", "a waiver of a rule that does not exist", everywhere("it waives nothing")),
    Rule(
        "opal.M403",
        "warning",
        "a waiver that waives nothing",
        everywhere("it would hide what is written on its line later"),
    ),
)
"""What is minded about the waivers themselves."""

RULES = (
    *contracts.RULES,
    *indexes.RULES,
    *constraints.RULES,
    *columns.RULES,
    *transactions.RULES,
    *WAIVERS,
)

DIALECTS = ("postgresql", "mysql")
"""The databases that there are rules for."""

DECIDED = {rule.id for rule in RULES} - {f"opal.M00{number}" for number in range(1, 6)}
"""The rules that a revision decides alone; the others also depend on who is there."""

BY_ID = {rule.id: rule for rule in RULES}
