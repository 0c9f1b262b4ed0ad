"""What a user sees of a study: tables and the live display."""
