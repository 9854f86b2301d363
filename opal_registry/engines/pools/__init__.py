"""Connections that are kept, and what happens to them."""
