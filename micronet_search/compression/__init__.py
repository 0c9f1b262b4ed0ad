"""Making a trained network smaller: fewer channels, factors, zeros and fewer bits."""
