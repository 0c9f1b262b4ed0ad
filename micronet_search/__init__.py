"""Searches for the cheapest convolutional network that still reaches a target accuracy."""
