"""Speech for the benchmarks: synthetic speakers by rule."""
