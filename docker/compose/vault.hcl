# Beside server.hcl, for HashiCorp Vault: it wants this decided, and locking memory would need a capability.
disable_mlock = true
