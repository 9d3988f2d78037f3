"""Results of a compression, and the state that several of them share."""
