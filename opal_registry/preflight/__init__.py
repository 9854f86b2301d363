"""What a database would refuse, found before the first statement. The door is :mod:`opal_registry.preflight.checks`."""
