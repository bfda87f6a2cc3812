"""What runs the plugin and what tells a cluster of it, as text to be placed: `keystead generate`."""
