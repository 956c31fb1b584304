"""Ends of turns: are people who think in the middle of a sentence cut off, and how long do the others wait?"""
