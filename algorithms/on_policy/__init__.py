"""On-policy methods: one loop, and the parts it is built from."""
