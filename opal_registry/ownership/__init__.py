"""Who owns what: where tables were defined, whose they are, which names collide, what refers to what."""
