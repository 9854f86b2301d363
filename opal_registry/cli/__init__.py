"""The command line ``opal-db``: parse, one call, print."""
