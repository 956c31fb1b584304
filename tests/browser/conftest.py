"""A headless Chromium with the call page open: its microphone plays a WAV, and the real server answers."""

import wave
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import pytest
from selenium import webdriver
from selenium.common.exceptions import TimeoutException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from tests.conftest import need
from tests.support.waiting import HANG_S

ARGUMENTS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--use-fake-device-for-media-stream",
    "--autoplay-policy=no-user-gesture-required",
)


SpeechWav = Callable[[str, float, float], Path]


class Server(Protocol):
    """A running system; `url` is the page's address."""

    url: str


class Page:
    """A browser with the page open in it."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver

    def open(self, url: str, query: str = "") -> None:
        # Chromium gives even a fake microphone only to a secure context; 127.0.0.1 is one.
        self.driver.get(f"{url}/{query}")
        self.until("return window.parley?.loaded")

    def run(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def until(self, script: str) -> Any:
        """Wait until the script returns a true value. The error shows the state of the page instead."""
        try:
            return WebDriverWait(self.driver, HANG_S, poll_frequency=0.05).until(lambda _: self.run(script))
        except TimeoutException:
            seen = self.run(
                "return window.parley && [parley.state, parley.events, parley.turns, document.body.innerText]"
            )
            raise AssertionError(f"never came: {script}; the page: {seen}") from None

    def click(self, identifier: str) -> None:
        self.driver.find_element(By.ID, identifier).click()

    def text(self, identifier: str) -> str:
        return self.driver.find_element(By.ID, identifier).text

    def type(self, text: str) -> None:
        self.driver.find_element(By.ID, "text").send_keys(text, Keys.ENTER)

    def look(self, width: int, height: int, *, dark: bool = False) -> None:
        """Set the viewport size and the colour scheme."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": scheme})
        # Wait for the colour transitions.
        self.driver.execute_async_script("setTimeout(arguments[0], 500)")

    def console_errors(self) -> list[str]:
        entries: list[dict[str, Any]] = self.driver.get_log("browser")  # type: ignore[no-untyped-call]
        return [entry["message"] for entry in entries if entry["level"] in {"SEVERE", "WARNING"}]


@contextmanager
def chromium(tmp_path: Path, *arguments: str) -> Iterator[Page]:
    options = webdriver.ChromeOptions()
    options.binary_location = need("chromium", "chromium-browser", "google-chrome")
    for argument in (*ARGUMENTS, f"--user-data-dir={tmp_path / 'profile'}", *arguments):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(need("chromedriver")))
    try:
        yield Page(driver)
    finally:
        driver.quit()


@pytest.fixture
def browser(tmp_path: Path) -> Callable[..., Any]:
    """Start a browser whose microphone plays a WAV from the moment the page opens it."""

    def make(wav: Path, *, loop: bool = False) -> Any:
        source = f"--use-file-for-fake-audio-capture={wav}{'' if loop else '%noloop'}"
        return chromium(tmp_path, "--use-fake-ui-for-media-stream", source)

    return make


@pytest.fixture
def silent_wav(tmp_path: Path) -> Path:
    path = tmp_path / "silence.wav"
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes(bytes(2 * 16_000))
    return path


KEEP_SOCKETS = """
    window.sockets = [];
    window.sent = [];
    window.received = 0;
    window.WebSocket = class extends WebSocket {
        constructor(url) {
            super(url);
            sockets.push(this);
            this.addEventListener("message", ({ data }) => (received += (data.byteLength ?? 0) / 2));
        }
        send(data) {
            if (!data.byteLength) sent.push(JSON.parse(data));
            super.send(data);
        }
    };
    window.tell = (message) => sockets.at(-1).onmessage({ data: JSON.stringify(message) });
"""
"""Records the messages on the page's WebSocket; `tell(message)` acts as if the server had sent it."""
