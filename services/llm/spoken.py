"""What of a piece of text is spoken."""


def speakable(text: str, language: str) -> str:
    return text.strip()
