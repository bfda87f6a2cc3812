"""What the provider `aws-kms` is made of. Only `config` is imported before a key is opened; the rest needs boto3."""
