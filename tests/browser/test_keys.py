"""The page where the server asks for a key, and where a proxy has put it under a path of its own."""

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi import FastAPI, Request, Response, WebSocket
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from websockets.asyncio.client import connect

from services.edge.access.keys import KeyFile
from tests.browser.conftest import Page
from tests.conftest import system
from tests.support.free_ports import free_ports
from tests.support.system import SCRIPTED, settings_of
from tests.support.waiting import HANG_S

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def send_key(page: Page, key: str) -> None:
    page.until("return document.querySelector('#ask-key[open]')")
    page.driver.find_element(By.CSS_SELECTOR, "#ask-key input").send_keys(key, Keys.ENTER)


def test_it_asks_for_a_key_keeps_it_for_the_tab_and_talks(browser: Callable[[Path], Any], tmp_path: Path) -> None:
    env = {**SCRIPTED, "PARLEY_KEYS": "required", "PARLEY_DATA_DIR": str(tmp_path / "data")}
    key, _ = KeyFile(settings_of(env)).create("one")
    with system(env) as server, browser() as page:
        page.driver.get(f"{server.url}/")
        page.until("return document.querySelector('#ask-key[open]')")
        assert not page.run("return window.parley?.loaded")
        send_key(page, "pk_wrong")
        page.until("return document.querySelector('#ask-key [role=alert]')?.textContent")
        secret = httpx.post(
            f"{server.url}/v1/realtime/client_secrets",
            headers={"Authorization": f"Bearer {key}"},
            json={},
            trust_env=False,
        ).json()["value"]
        send_key(page, secret)
        page.until("return window.parley?.loaded")
        page.type("hello")
        page.until("return parley.turns[0]?.reply")
        assert page.run("return sessionStorage.getItem('parley.key')") == secret
        assert page.run("return localStorage.length === 0 || !JSON.stringify(localStorage).includes('ek_')")
        assert secret not in page.driver.current_url
        # A new page of the same tab does not ask again.
        page.open(server.url)
        assert not page.run("return document.querySelector('#ask-key')")
        # Nobody else's page shows this one in a frame, and it connects to nobody else.
        assert (
            page.driver.execute_async_script(
                "const done = arguments[0]; addEventListener('securitypolicyviolation', (event) => done(event.violatedDirective));"
                "fetch('https://evil.example/').catch(() => {});"
            )
            == "connect-src"
        )


@contextmanager
def proxy(target: str, prefix: str) -> Iterator[str]:
    """A proxy that maps a path to a server, as `location /voice/` of nginx does. Yields the address of the page."""

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with httpx.AsyncClient(trust_env=False, timeout=HANG_S) as client:
            app.state.client = client
            yield

    app = FastAPI(lifespan=lifespan)

    @app.websocket(f"{prefix}/{{path:path}}")
    async def pass_socket(websocket: WebSocket, path: str) -> None:
        name, _, port_there = target.partition("://")[2].partition(":")
        address = f"ws://{websocket.headers['host']}/{path}?{websocket.url.query}"  # the Host header is passed on
        origin = {"Origin": websocket.headers["origin"]}
        async with connect(
            address,
            host=name,
            port=int(port_there),
            additional_headers=origin,
            proxy=None,
            max_size=None,
            open_timeout=HANG_S,
        ) as other:
            await websocket.accept()

            async def to_client() -> None:
                async for message in other:
                    await (websocket.send_text(message) if isinstance(message, str) else websocket.send_bytes(message))

            sending = asyncio.create_task(to_client())
            try:
                while (message := await websocket.receive())["type"] != "websocket.disconnect":
                    await other.send(message.get("text") or message.get("bytes") or b"")
            finally:
                sending.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await sending

    @app.api_route(f"{prefix}/{{path:path}}", methods=["GET", "POST"])
    async def pass_request(request: Request, path: str) -> Response:
        kept = {name: request.headers[name] for name in ("host", "origin", "content-type") if name in request.headers}
        answer: httpx.Response = await app.state.client.request(
            request.method, f"{target}/{path}?{request.url.query}", headers=kept, content=await request.body()
        )
        passed = {
            name: answer.headers[name] for name in ("content-type", "content-security-policy") if name in answer.headers
        }
        return Response(answer.content, answer.status_code, passed)

    port = free_ports(1)
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="error", ws="websockets-sansio"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            thread.join(0.02)
        yield f"http://127.0.0.1:{port}{prefix}"
    finally:
        server.should_exit = True
        thread.join()


def test_the_page_and_the_monitor_work_under_any_path(browser: Callable[[Path], Any]) -> None:
    with system(SCRIPTED) as server, proxy(server.url, "/voice") as url, browser() as page:
        page.open(url)
        page.type("hello")
        page.until("return parley.turns[0]?.reply && parley.turns[0].status === 'completed'")
        session = page.run("return parley.session")
        page.driver.get(f"{url}/monitor")
        page.until(f"return document.querySelector('#turns a[href$=\"/voice/monitor/sessions/{session}\"]')").click()
        page.until("return document.body.innerText.includes('hello') || document.querySelector('.waterfall, #turns')")
        assert page.driver.current_url == f"{url}/monitor/sessions/{session}"
        page.driver.find_element(By.CSS_SELECTOR, "header a.talk").click()
        page.until("return window.parley?.loaded")
        assert page.driver.current_url == f"{url}/"
        missing = [entry for entry in page.console_errors() if "404" in entry]
        assert missing == []
