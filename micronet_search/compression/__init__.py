"""Making a trained network smaller: zeros and fewer bits."""
