"""What to try next: one sampler a file. Knows no disk and no cluster."""
