"""The machine-local cloud: everything `make demo` and `make dev` need, and nothing the product imports."""
