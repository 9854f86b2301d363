"""What databases say when something goes wrong, by one name and in plain words."""
