"What a trained encoder is for: embedding, search, probes, fine-tuning, tasks"
