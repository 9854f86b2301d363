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

BY_ID = {rule.id: rule for rule in RULES}
