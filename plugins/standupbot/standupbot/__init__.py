"""StandupBot: asynchronous stand-ups for teams: questions, daily updates and blockers."""
