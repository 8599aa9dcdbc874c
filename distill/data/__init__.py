"""Data: words read, rendered, augmented, mixed, written, audited."""
