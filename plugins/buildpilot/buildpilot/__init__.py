"""BuildPilot: continuous integration: pipelines, builds, agents and artifacts."""
