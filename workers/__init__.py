"""What runs in the background: joins the service (app) and the networks (models)."""
