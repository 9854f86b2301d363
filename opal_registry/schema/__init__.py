"""Models and the live database: what can be created, what is there, and how the two differ."""
