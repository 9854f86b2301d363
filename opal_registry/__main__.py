"""``python -m opal_registry``: the same as ``opal-db``."""

import sys

from opal_registry.cli.main import main

sys.exit(main())
