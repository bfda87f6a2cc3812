"""Private parts of the provider `vault-transit`. Nothing here imports an SDK before a key is opened, but `http`."""
