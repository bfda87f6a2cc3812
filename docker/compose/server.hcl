# One server, of OpenBao or of HashiCorp Vault, with its storage in a volume.
storage "raft" {
  path    = "/data"
  node_id = "demo"
  # Elections as quick as in production; the default is for small machines and takes some seconds.
  performance_multiplier = 1
}

listener "tcp" {
  address         = "0.0.0.0:8200"
  cluster_address = "0.0.0.0:8201"
  tls_cert_file   = "/tls/server.crt"
  tls_key_file    = "/tls/server.key"
}

api_addr     = "https://transit:8200"
cluster_addr = "https://transit:8201"
