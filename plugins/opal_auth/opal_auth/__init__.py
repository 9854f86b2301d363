"""auth service: signing in to the suite: refresh tokens, one-time codes and social identities."""
