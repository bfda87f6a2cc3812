"""Private parts of the provider `gcp-kms`. Only `client` and `tokens` import an SDK, and they only when opened."""
