"""The workshop: from a trained checkpoint to a quantised model bundle."""
