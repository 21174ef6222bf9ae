"""Migrations, forward only. One never breaks the previous release: add now, drop later (D6)."""
