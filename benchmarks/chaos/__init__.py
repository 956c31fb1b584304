"""Chaos: sessions talk while processes are killed. Counts what was lost, and measures how soon the audio goes on."""
