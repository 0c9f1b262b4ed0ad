"""What a user writes: the sweep and the candidate, and how they are loaded."""
