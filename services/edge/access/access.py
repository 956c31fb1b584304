"""The one place that decides who may use the edge, for each HTTP request and each handshake of a WebSocket."""

from collections.abc import Callable

from services.edge.access.caller import Caller
from services.edge.access.client_secrets import PREFIX as SECRET_PREFIX
from services.edge.access.client_secrets import ClientSecrets
from services.edge.access.denied import Denied
from services.edge.access.keys import PREFIX, KeyFile
from services.edge.access.mode import Mode, mode_of
from services.edge.access.request import Request
from services.edge.access.site import Site, host_name, hosts_of, split
from shared.bus.bus import Bus
from shared.network import is_loopback
from shared.settings import Settings

SHOWN = 100
"""Characters of a header that are repeated in an answer."""
HOW = "Send it as `Authorization: Bearer KEY`; a browser's WebSocket as the subprotocol `openai-insecure-api-key.KEY`."
PUBLIC = ("/", "/health", "/monitor")
"""Pages without data, and whether the server is well. The pages ask for a key when they need one."""
PUBLIC_FOLDERS = ("/web/",)
PHONE = "/phone/"


class Access:
    """Decides by the settings of this edge, and by its keys."""

    def __init__(self, settings: Settings, bus: Callable[[], Bus | None] = lambda: None) -> None:
        """`bus`: the current one, where client secrets are.

        Raises:
            BadSettings: the settings leave open who may use the edge; the message says what to set.
        """
        self.mode = mode_of(settings)
        self.keys = KeyFile(settings)
        self.secrets = ClientSecrets(bus)
        self._site = Site(hosts_of(settings.hosts, settings.public_url, settings.host), split(settings.origins))
        self._may_be_local = is_loopback(settings.host) and self.mode is not Mode.KEYS
        self._phone_is_signed = settings.twilio_auth_token is not None

    async def admit(self, request: Request) -> Caller:
        """Say who sent a request.

        Raises:
            Denied: the server does not answer it.
        """
        self._check_site(request)
        caller = await self._identify(request)
        if caller.key is None and caller.secret is None and self._needs_key(request, caller):
            if request.path.startswith(PHONE):
                raise Denied(
                    403, "signature_needed", "phone calls need PARLEY_TWILIO_AUTH_TOKEN, which checks their signature"
                )
            if request.credential is None:
                raise Denied(401, "missing_api_key", f"this server asks for a key. {HOW}")
            raise Denied(401, "invalid_api_key", "this is not a key of this server")
        return caller

    def _check_site(self, request: Request) -> None:
        """Raises `Denied` if a page of another site sends the request, or one whose name was made to point to this server."""
        # Callers who need a key may use any name: a page of another site does not know the key.
        if self.mode is not Mode.KEYS and not self._site.is_called(request.host):
            name = host_name(request.host or "")[:SHOWN]
            message = f"this server is not known as {name!r}; PARLEY_HOSTS={name} makes it known by this name"
            raise Denied(403, "unknown_host", message)
        if request.changes_something and not self._site.allows(request):
            shown = (request.origin or "")[:SHOWN]
            message = (
                f"pages of {shown} may not use this server, which was called {(request.host or '')[:SHOWN]!r}; "
                f"PARLEY_ORIGINS={shown} allows it. A proxy has to pass the Host header on."
            )
            raise Denied(403, "unknown_origin", message)

    async def _identify(self, request: Request) -> Caller:
        """Raises `Denied` if the request carries a wrong key. Any other text passes: clients send one where no key is needed."""
        local = self._is_local(request)
        trusted = self.mode is Mode.OPEN or (self.mode is Mode.LOCAL and local)
        given = request.credential or ""
        if given.startswith(PREFIX):
            key = self.keys.find(given)
            if key is None:
                raise Denied(401, "invalid_api_key", "this key does not exist, was revoked, or has expired")
            return Caller(request.address, local, key, trusted=key.operator)
        if given.startswith(SECRET_PREFIX):
            secret = await self.secrets.find(given, use=request.websocket)
            key = self.keys.valid().get(secret.key)
            if secret.key and key is None:
                raise Denied(
                    401, "invalid_api_key", "the key that created this client secret was revoked, or has expired"
                )
            return Caller(request.address, local, key, secret)
        return Caller(request.address, local, trusted=trusted)

    def _needs_key(self, request: Request, caller: Caller) -> bool:
        path = request.path
        if path in PUBLIC or path.startswith(PUBLIC_FOLDERS) or _is_session_page(path):
            return False
        if path.startswith(PHONE) and self._phone_is_signed:
            return False
        return self.mode is Mode.KEYS or (self.mode is Mode.LOCAL and not caller.local)

    def _is_local(self, request: Request) -> bool:
        """Whether a request comes from this machine, whose users are trusted, and not through a proxy."""
        named = request.host is not None and is_loopback(host_name(request.host))
        return self._may_be_local and named and not request.forwarded


def _is_session_page(path: str) -> bool:
    return path.startswith("/monitor/sessions/") and not path.endswith("/data")
