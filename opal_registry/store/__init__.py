"""What the registry keeps in the database for itself: the ledger, and the lock of a run."""
