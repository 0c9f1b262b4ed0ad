"""The engine that runs trials on every device of a Ray cluster, of one node or of many."""
