"""Discovery methods: one file per method, one protocol."""
