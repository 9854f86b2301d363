"""Histories of sub-apps that are released independently, run in one database by Alembic."""
