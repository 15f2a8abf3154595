"""What starts workflows beside a client: schedules, webhooks and events. Above the store, below the faces."""
