"""What a revision would do to those who use the database meanwhile: judged by its operations, before it is run."""
