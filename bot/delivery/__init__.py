"""How answers reach people: the outbox's courier, the ladder of ways, the words."""
