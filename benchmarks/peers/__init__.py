"""The service next to other model servers, in one run: `make bench-peers`."""
