"""Keystead: a Kubernetes KMS plugin framework. Public for adapters: `keystead.provider`, `keystead.errors`."""

__version__ = "0.1.0"
