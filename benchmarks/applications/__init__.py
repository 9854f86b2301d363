"""Web applications with one endpoint, each in the way of a contestant; they run in environments of their own.

``URL`` is the database as SQLAlchemy writes it. ``KEPT`` is how many connections a pool keeps; if it is empty, as many as it is
delivered with.
"""

import os

CLIENTS = 16
KEPT = int(os.environ.get("KEPT") or 0)
POOL = {"pool_size": KEPT} if KEPT else {}
"""What SQLAlchemy's engines are told."""
