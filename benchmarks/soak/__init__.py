"""The soak: sessions come and go for minutes, and nothing grows."""
