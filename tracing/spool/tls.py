"""How the library checks a collector's certificate, and which it shows itself."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

from tracing.errors import ConfigurationError

if TYPE_CHECKING:
    from tracing.settings import TlsFiles


def context_for(url: str, files: TlsFiles) -> ssl.SSLContext | None:
    """Our side of TLS with a server; `None`: nothing is special about it.

    Raises:
        ConfigurationError: a file cannot be read, or they do not belong together.
    """
    if not url.startswith("https:") or not any(files):
        return None
    try:
        context = ssl.create_default_context(cafile=files.ca_file)
        if files.cert_file is not None:
            context.load_cert_chain(files.cert_file, files.key_file, password=_no_password)
    except (OSError, ValueError) as error:  # an `ssl.SSLError` is an `OSError`
        named = ", ".join(str(file) for file in files if file is not None)
        said = str(getattr(error, "strerror", None) or error).split(" (_ssl.c")[0]
        raise ConfigurationError(
            f"{named}: {said}; PEM files are wanted, the key without a password"
        ) from None
    return context


def _no_password() -> str:
    """Without this OpenSSL would ask for one on the terminal, and wait."""
    raise ValueError("the key has a password")
