"""What is told of an engine while it works."""
