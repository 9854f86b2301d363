"""How long it takes to bring a schema up: ``opal-db init`` beside everybody else's way, in one run (``make bench``).

__main__ -> environments (virtual environments, wheels, sites) -> rounds (every case, every contestant)
         -> measure (one process) -> report (medians, ratios, the measures to reach)
"""
