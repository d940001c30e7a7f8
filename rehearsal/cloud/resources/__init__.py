"""The rehearsed resource types, one module a type. `rehearsal.cloud.registry` lists them."""
