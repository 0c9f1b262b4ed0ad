"""The families of networks."""
