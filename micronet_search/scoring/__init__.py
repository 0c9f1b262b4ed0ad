"""What a network costs, and the score that rules make of it."""
