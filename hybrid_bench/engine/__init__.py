"""Engine: models, embeddings, and the exact ranks of all relevant passages."""
