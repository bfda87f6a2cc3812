"""Two and three nodes of the plugin's own code, their API servers and one etcd, moved by a clock and by any events."""
