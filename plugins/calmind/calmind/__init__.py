"""CalMind: a quiet corner at work: exercises, mood check-ins, reminders and a private journal."""
