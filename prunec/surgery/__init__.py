"""Apply a plan to a network: the only place where shapes change."""
