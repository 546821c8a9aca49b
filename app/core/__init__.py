"""Settings, database session, object store, queue client, errors, auth: one of each."""
