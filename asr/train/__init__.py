"""Training of the acoustic model: manifest -> cached features -> batches -> trainer -> checkpoints."""
