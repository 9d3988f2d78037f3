"""Define what a user asks for: target, constraints, engine and recipe."""
