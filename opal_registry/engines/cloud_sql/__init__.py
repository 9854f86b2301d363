"""Engines of Google Cloud SQL instances."""
