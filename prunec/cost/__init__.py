"""Count what a network costs as a function of the channels kept."""
