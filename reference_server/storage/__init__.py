"""The only place that speaks to PostgreSQL. psycopg's errors never leave it."""
