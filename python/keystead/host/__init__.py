"""Everything between the gRPC handlers and the providers: keys, local KEKs, state, health, reload. Knows no gRPC."""
