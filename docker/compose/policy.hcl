# All that Keystead needs. Never "create": a typing error in transitKey would make a new key.
path "transit/encrypt/k8s" { capabilities = ["update"] }
path "transit/decrypt/k8s" { capabilities = ["update"] }
path "transit/keys/k8s"    { capabilities = ["read"] }
