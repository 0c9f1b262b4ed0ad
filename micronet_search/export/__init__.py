"""Shipping a network: its files, the model card, and the check that they agree."""
