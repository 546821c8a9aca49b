"""What a client talks to: HTTP, storage, money, maps."""
