"""The settings that say who may use the edge, and how it is reached."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, SecretStr

from shared.settings_table import Setting

ORIGIN = r"[A-Za-z][A-Za-z0-9+.-]*://[^/,\s]+"
"""A pattern for the origin of a web page."""


class AccessSettings(BaseModel):
    """Who may use the edge"""

    keys: Annotated[
        Literal["auto", "required"],
        Setting(
            "Whether clients need a key; auto: this machine does not, where the edge listens on loopback", stage="edge"
        ),
    ] = "auto"
    open: Annotated[bool, Setting("Everybody who reaches the edge may use it without a key", stage="edge")] = False
    key: Annotated[SecretStr | None, Setting("Key that the commands of `parley` send to the edge")] = None
    hosts: Annotated[
        str,
        Setting(
            "Names by which others call the edge, for example behind a proxy: voice.example.org",
            pattern=r"[^\s/@]*",
            shape="host names without a port, separated by commas",
            stage="edge",
        ),
    ] = ""
    origins: Annotated[
        str,
        Setting(
            "Web pages of other sites that may use the edge: https://shop.example.org",
            pattern=rf"({ORIGIN}(,{ORIGIN})*)?",
            shape="origins such as https://shop.example.org, without a path, separated by commas",
            stage="edge",
        ),
    ] = ""
    trusted_proxies: Annotated[
        str,
        Setting(
            "Addresses of proxies before the edge, whose X-Forwarded-For and -Proto it believes: 10.0.0.0/8",
            pattern=r"[0-9A-Fa-f.:/,]*",
            shape="IP addresses or networks, separated by commas",
            stage="edge",
        ),
    ] = ""
    tls_cert: Annotated[
        Path | None, Setting("File of the certificate and its chain, PEM; the edge then speaks https", stage="edge")
    ] = None
    tls_key: Annotated[Path | None, Setting("File of the certificate's key, PEM", stage="edge")] = None
    public_url: Annotated[
        str,
        Setting(
            "URL that the phone carrier connects to, as it stands in the TwiML, without a query",
            pattern=r"(wss://[^/\s?#@]+(/[^\s?#]*)?/phone/twilio)?",
            shape="a URL such as wss://voice.example.org/phone/twilio: it is what Twilio signs",
            stage="edge",
        ),
    ] = ""
    twilio_auth_token: Annotated[
        SecretStr | None, Setting("Checks the signature of Twilio's connections; unset: no check", stage="edge")
    ] = None
