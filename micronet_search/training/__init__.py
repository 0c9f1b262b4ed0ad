"""Fitting and evaluating a network."""
