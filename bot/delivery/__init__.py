"""The delivery of answers: cards, the outbox's courier, the ladder of ways."""
